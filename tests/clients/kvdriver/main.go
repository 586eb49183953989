// The call sequence of a Go key-value driver built on gomemcache: `kvdriver HOST:PORT`.
// The driver itself is driver.go.
package main

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/bradfitz/gomemcache/memcache"

	"../gokit"
)

func main() {
	gokit.Main("kvdriver", []gokit.Section{
		{Name: "setGetDelete", Run: setGetDelete},
		{Name: "conditions", Run: conditions},
		{Name: "batches", Run: batches},
		{Name: "compareAndSwap", Run: compareAndSwap},
		{Name: "compareAndSwapTogether", Run: compareAndSwapTogether},
		{Name: "rawClient", Run: rawClient},
		{Name: "expiry", Run: expiry},
	})
}

func setGetDelete(check *gokit.Checks, address string) {
	kv := Open(address)
	_, err := kv.Get("kv:k")
	check.Error(err, ErrNotFound, "Get of an absent key")
	check.OK(kv.Set("kv:k", []byte("one"), time.Hour), "Set with a TTL")
	got, err := kv.Get("kv:k")
	check.Bytes(got, err, "one", "Get after Set")
	check.OK(kv.Set("kv:k", []byte("two"), 0), "Set without a TTL")
	got, err = kv.Get("kv:k")
	check.Bytes(got, err, "two", "Get after the second Set")
	check.OK(kv.Set("kv:empty", nil, time.Hour), "Set of an empty value")
	got, err = kv.Get("kv:empty")
	check.Bytes(got, err, "", "Get of an empty value")
	check.OK(kv.Delete("kv:k"), "Delete")
	check.OK(kv.Delete("kv:k"), "Delete of an absent key")
	_, err = kv.Get("kv:k")
	check.Error(err, ErrNotFound, "Get after Delete")
}

func conditions(check *gokit.Checks, address string) {
	kv := Open(address)
	done, err := kv.SetXX("kv:x", []byte("x"), time.Hour)
	check.True(err == nil && !done, "XX of an absent key stores nothing")
	done, err = kv.SetNX("kv:x", []byte("first"), time.Hour)
	check.True(err == nil && done, "NX of an absent key stores")
	done, err = kv.SetNX("kv:x", []byte("second"), time.Hour)
	check.True(err == nil && !done, "NX of a present key stores nothing")
	got, err := kv.Get("kv:x")
	check.Bytes(got, err, "first", "Get after NX")
	done, err = kv.SetXX("kv:x", []byte("third"), time.Hour)
	check.True(err == nil && done, "XX of a present key stores")
	got, err = kv.Get("kv:x")
	check.Bytes(got, err, "third", "Get after XX")
	winners := make(chan int, 8)
	check.Together(8, "NX as a lock", func(index int) error {
		done, err := kv.SetNX("kv:lock", []byte(strconv.Itoa(index)), time.Hour)
		if done {
			winners <- index
		}
		return err
	})
	check.True(len(winners) == 1, "exactly one of eight takes the lock")
	got, err = kv.Get("kv:lock")
	check.Bytes(got, err, strconv.Itoa(<-winners), "and it is the one that was told so")
}

func batches(check *gokit.Checks, address string) {
	kv := Open(address)
	pairs, keys := map[string][]byte{}, []string{"kv:absent"}
	for number := 0; number < 200; number++ {
		key := fmt.Sprintf("kv:m:%d", number)
		pairs[key] = []byte("value " + key)
		keys = append(keys, key)
	}
	check.OK(kv.MSet(pairs, time.Hour), "MSet of 200 keys")
	got, err := kv.MGet(keys...)
	check.OK(err, "MGet of 201 keys")
	check.True(len(got) == 200, "MGet leaves out what is absent")
	for key, want := range pairs {
		if string(got[key]) != string(want) {
			check.Fail("MGet: %s has the value %q", key, got[key])
		}
	}
	got, err = kv.MGet("kv:absent", "kv:absent:too")
	check.True(err == nil && len(got) == 0, "MGet of absent keys is empty")
}

func compareAndSwap(check *gokit.Checks, address string) {
	kv, other := Open(address), Open(address)
	calls := 0
	exclaim := func(old []byte) ([]byte, error) {
		calls++
		return append(old, '!'), nil
	}
	check.Error(kv.CompareAndSwap("kv:c", 0, exclaim), ErrNotFound, "CompareAndSwap of an absent key")
	check.True(calls == 0, "does not call back")
	check.OK(kv.Set("kv:c", []byte("a"), 0), "Set")
	check.OK(kv.CompareAndSwap("kv:c", time.Hour, exclaim), "CompareAndSwap without a race")
	check.True(calls == 1, "calls back once")
	raced := false
	err := kv.CompareAndSwap("kv:c", time.Hour, func(old []byte) ([]byte, error) {
		if !raced {
			raced = true
			if err := other.Set("kv:c", []byte("b"), 0); err != nil {
				return nil, err
			}
		}
		return exclaim(old)
	})
	check.OK(err, "CompareAndSwap with a race")
	check.True(calls == 3, "calls back again after a lost race")
	got, err := kv.Get("kv:c")
	check.Bytes(got, err, "b!", "the change was made to the newer value")
	refused := errors.New("refused")
	err = kv.CompareAndSwap("kv:c", 0, func([]byte) ([]byte, error) { return nil, refused })
	check.Error(err, refused, "an error of the callback comes back")
	kv.Retries = 2
	err = kv.CompareAndSwap("kv:c", 0, func(old []byte) ([]byte, error) {
		return old, other.Set("kv:c", []byte("again"), 0)
	})
	check.True(errors.Is(err, ErrConflict), "a race lost each time ends after the retries")
}

// Twelve goroutines count up by callbacks; each increment must be kept exactly once.
func compareAndSwapTogether(check *gokit.Checks, address string) {
	const goroutines, rounds = 12, 25
	kv := Open(address)
	kv.Retries = 1 << 20
	check.OK(kv.Set("kv:counter", []byte("0"), 0), "Set")
	check.Together(goroutines, "CompareAndSwap in goroutines", func(int) error {
		for round := 0; round < rounds; round++ {
			err := kv.CompareAndSwap("kv:counter", time.Hour, func(old []byte) ([]byte, error) {
				number, err := strconv.Atoi(string(old))
				return []byte(strconv.Itoa(number + 1)), err
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	got, err := kv.Get("kv:counter")
	check.Bytes(got, err, strconv.Itoa(goroutines*rounds), "the count of all goroutines")
}

func rawClient(check *gokit.Checks, address string) {
	kv := Open(address)
	check.OK(kv.Set("kv:hits", []byte("0"), time.Hour), "Set")
	check.Together(8, "Increment in goroutines", func(int) error {
		for round := 0; round < 25; round++ {
			if _, err := kv.Client().Increment("kv:hits", 2); err != nil {
				return err
			}
		}
		return nil
	})
	number, err := kv.Client().Increment("kv:hits", 0)
	check.Number(number, err, 400, "the sum of all increments")
	_, err = kv.Client().Increment("kv:absent", 1)
	check.Error(err, memcache.ErrCacheMiss, "Increment of an absent key")
	wire, err := gokit.Dial(address)
	check.OK(err, "a connection for Append, which Debian's gomemcache lacks")
	defer wire.Close()
	check.OK(kv.Set("kv:log", []byte("a"), time.Hour), "Set")
	for _, word := range []string{",b", ",c"} {
		check.OK(wire.Append(&memcache.Item{Key: "kv:log", Value: []byte(word)}), "Append")
	}
	got, err := kv.Get("kv:log")
	check.Bytes(got, err, "a,b,c", "Get after Append")
}

func expiry(check *gokit.Checks, address string) {
	kv := Open(address)
	check.OK(kv.Set("kv:short", []byte("v"), time.Second), "Set for 1 s")
	check.OK(kv.Set("kv:shorter", []byte("v"), time.Millisecond), "Set for 1 ms")
	check.OK(kv.MSet(map[string][]byte{"kv:batch": []byte("v")}, time.Second), "MSet for 1 s")
	_, err := kv.SetNX("kv:held", []byte("v"), time.Second)
	check.OK(err, "NX for 1 s")
	check.OK(kv.Set("kv:long", []byte("v"), time.Hour), "Set for an hour")
	check.OK(kv.Set("kv:swapped", []byte("v"), time.Hour), "Set for an hour")
	err = kv.CompareAndSwap("kv:swapped", time.Second, func(old []byte) ([]byte, error) { return old, nil })
	check.OK(err, "CompareAndSwap to 1 s")
	for _, key := range []string{"kv:short", "kv:shorter", "kv:batch", "kv:held", "kv:swapped"} {
		check.Eventually(func() bool { _, err := kv.Get(key); return err == ErrNotFound }, key+" expires")
	}
	done, err := kv.SetNX("kv:held", []byte("again"), time.Hour)
	check.True(err == nil && done, "NX takes an expired key")
	got, err := kv.Get("kv:long")
	check.Bytes(got, err, "v", "a key of an hour stays")
}
