// gomemcache against one server: `gomemcache HOST:PORT`.
//
// Debian packages the version of 2014. It sends `gets` for every read, as all versions do. It has
// no Append, Prepend, GetAndTouch and Ping: gokit.Wire sends for them what later versions send.
package main

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/bradfitz/gomemcache/memcache"

	"../gokit"
)

func main() {
	gokit.Main("gomemcache", []gokit.Section{
		{Name: "storage", Run: storage},
		{Name: "compareAndSwap", Run: compareAndSwap},
		{Name: "compareAndSwapTogether", Run: compareAndSwapTogether},
		{Name: "getMulti", Run: getMulti},
		{Name: "numbers", Run: numbers},
		{Name: "appendPrependGetAndTouchPing", Run: laterCalls},
		{Name: "expiry", Run: expiry},
		{Name: "valuesAndKeys", Run: valuesAndKeys},
		{Name: "flush", Run: flush},
	})
}

func connect(address string) *memcache.Client {
	client := memcache.New(address)
	// The default of 100 ms would let a busy machine decide.
	client.Timeout = 10 * time.Second
	return client
}

func item(key, value string) *memcache.Item {
	return &memcache.Item{Key: key, Value: []byte(value)}
}

func value(it *memcache.Item) []byte {
	if it == nil {
		return nil
	}
	return it.Value
}

func storage(check *gokit.Checks, address string) {
	client := connect(address)
	_, err := client.Get("s:absent")
	check.Error(err, memcache.ErrCacheMiss, "Get of an absent key")
	check.OK(client.Set(&memcache.Item{Key: "s:k", Value: []byte("one"), Flags: 42}), "Set")
	it, err := client.Get("s:k")
	check.Bytes(value(it), err, "one", "Get after Set")
	check.True(it.Flags == 42 && it.Key == "s:k", "the flags and the key come back")
	check.Error(client.Add(item("s:k", "x")), memcache.ErrNotStored, "Add of a present key")
	check.OK(client.Add(item("s:new", "x")), "Add of an absent key")
	check.OK(client.Replace(item("s:k", "two")), "Replace of a present key")
	check.Error(client.Replace(item("s:none", "x")), memcache.ErrNotStored, "Replace of an absent key")
	it, err = client.Get("s:k")
	check.Bytes(value(it), err, "two", "Get after Replace")
	check.OK(client.Delete("s:k"), "Delete")
	check.Error(client.Delete("s:k"), memcache.ErrCacheMiss, "Delete of an absent key")
	_, err = client.Get("s:k")
	check.Error(err, memcache.ErrCacheMiss, "Get after Delete")
}

func compareAndSwap(check *gokit.Checks, address string) {
	first, second := connect(address), connect(address)
	check.OK(first.Set(item("c:k", "one")), "Set")
	mine, err := first.Get("c:k")
	check.OK(err, "Get by the first")
	theirs, err := second.Get("c:k")
	check.OK(err, "Get by the second")
	mine.Value = []byte("mine")
	check.OK(first.CompareAndSwap(mine), "CompareAndSwap with the current token is won")
	theirs.Value = []byte("theirs")
	err = second.CompareAndSwap(theirs)
	check.Error(err, memcache.ErrCASConflict, "CompareAndSwap with an old token is lost")
	it, err := second.Get("c:k")
	check.Bytes(value(it), err, "mine", "the lost CompareAndSwap changed nothing")
	check.OK(first.Delete("c:k"), "Delete")
	check.Error(second.CompareAndSwap(it), memcache.ErrCacheMiss, "CompareAndSwap of a deleted key")
	check.OK(first.Set(item("c:k", "new")), "Set again")
	check.Error(second.CompareAndSwap(it), memcache.ErrCASConflict, "a token does not outlive its item")
	it, err = second.Get("c:k")
	check.Bytes(value(it), err, "new", "the new item is untouched")
}

// Sixteen goroutines with one client, whose pool keeps two connections and closes the rest again
// and again, count up; each increment must be kept exactly once.
func compareAndSwapTogether(check *gokit.Checks, address string) {
	const goroutines, rounds = 16, 25
	client := connect(address)
	check.OK(client.Set(item("c:counter", "0")), "Set")
	check.Together(goroutines, "CompareAndSwap in goroutines", func(int) error {
		for done := 0; done < rounds; {
			it, err := client.Get("c:counter")
			if err != nil {
				return err
			}
			number, err := strconv.Atoi(string(it.Value))
			if err != nil {
				return err
			}
			it.Value = []byte(strconv.Itoa(number + 1))
			switch err = client.CompareAndSwap(it); err {
			case nil:
				done++
			case memcache.ErrCASConflict:
			default:
				return err
			}
		}
		return nil
	})
	it, err := client.Get("c:counter")
	check.Bytes(value(it), err, strconv.Itoa(goroutines*rounds), "the count of all goroutines")
}

func getMulti(check *gokit.Checks, address string) {
	client := connect(address)
	keys := []string{}
	for number := 0; number < 1000; number++ {
		key := fmt.Sprintf("m:%d", number)
		keys = append(keys, key)
		if err := client.Set(item(key, "value "+key)); err != nil {
			check.Fail("Set of %s: %v", key, err)
		}
	}
	got, err := client.GetMulti(keys)
	check.OK(err, "GetMulti of 1000 keys")
	check.True(len(got) == len(keys), "GetMulti brings all keys")
	for _, key := range keys {
		if string(value(got[key])) != "value "+key {
			check.Fail("GetMulti: %s has the value %q", key, value(got[key]))
		}
	}
	got, err = client.GetMulti([]string{"m:3", "m:absent", "m:4", "m:3"})
	check.OK(err, "GetMulti with a miss and a duplicate")
	check.True(len(got) == 2 && got["m:absent"] == nil, "GetMulti leaves out what is absent")
	swapped := got["m:3"]
	swapped.Value = []byte("swapped")
	check.OK(client.CompareAndSwap(swapped), "CompareAndSwap with a token of GetMulti")
	check.Error(client.CompareAndSwap(swapped), memcache.ErrCASConflict, "and only once")
}

func numbers(check *gokit.Checks, address string) {
	client := connect(address)
	check.OK(client.Set(item("n:k", "10")), "Set")
	number, err := client.Increment("n:k", 5)
	check.Number(number, err, 15, "Increment")
	number, err = client.Decrement("n:k", 6)
	check.Number(number, err, 9, "Decrement")
	number, err = client.Decrement("n:k", 100)
	check.Number(number, err, 0, "Decrement stops at zero")
	number, err = client.Increment("n:k", 1<<64-1)
	check.Number(number, err, 1<<64-1, "Increment to the largest number")
	number, err = client.Increment("n:k", 1)
	check.Number(number, err, 0, "Increment wraps at 2^64")
	_, err = client.Increment("n:absent", 1)
	check.Error(err, memcache.ErrCacheMiss, "Increment of an absent key")
	check.OK(client.Set(item("n:word", "word")), "Set of a word")
	_, err = client.Increment("n:word", 1)
	check.True(err != nil && strings.Contains(err.Error(), "client error"), "Increment of a word")
	it, err := client.Get("n:word")
	check.Bytes(value(it), err, "word", "Get after an error")
}

func laterCalls(check *gokit.Checks, address string) {
	client := connect(address)
	wire, err := gokit.Dial(address)
	check.OK(err, "a second connection")
	defer wire.Close()
	check.OK(wire.Ping(), "Ping")
	check.OK(client.Set(&memcache.Item{Key: "l:k", Value: []byte("b"), Flags: 9}), "Set")
	check.OK(wire.Append(item("l:k", "c")), "Append")
	check.OK(wire.Prepend(item("l:k", "a")), "Prepend")
	it, err := client.Get("l:k")
	check.Bytes(value(it), err, "abc", "value after Append and Prepend")
	check.Error(wire.Append(item("l:none", "x")), memcache.ErrNotStored, "Append to an absent key")
	check.Error(wire.Prepend(item("l:none", "x")), memcache.ErrNotStored, "Prepend to an absent key")
	it, err = wire.GetAndTouch("l:k", 1)
	check.Bytes(value(it), err, "abc", "GetAndTouch")
	check.True(it.Flags == 9, "GetAndTouch brings the flags")
	_, err = wire.GetAndTouch("l:none", 1)
	check.Error(err, memcache.ErrCacheMiss, "GetAndTouch of an absent key")
	check.Eventually(gone(client, "l:k"), "a key touched to one second expires")
}

func gone(client *memcache.Client, key string) func() bool {
	return func() bool {
		_, err := client.Get(key)
		return err == memcache.ErrCacheMiss
	}
}

func expiry(check *gokit.Checks, address string) {
	client := connect(address)
	check.OK(client.Set(&memcache.Item{Key: "e:short", Value: []byte("v"), Expiration: 1}), "Set for 1 s")
	check.OK(client.Set(&memcache.Item{Key: "e:long", Value: []byte("v"), Expiration: 1000}), "Set for 1000 s")
	check.OK(client.Set(item("e:touched", "v")), "Set for ever")
	check.OK(client.Touch("e:touched", 1), "Touch")
	check.Error(client.Touch("e:absent", 1), memcache.ErrCacheMiss, "Touch of an absent key")
	check.Eventually(gone(client, "e:short"), "a key of one second expires")
	check.Eventually(gone(client, "e:touched"), "a key touched to one second expires")
	it, err := client.Get("e:long")
	check.Bytes(value(it), err, "v", "a key of 1000 seconds stays")
}

func valuesAndKeys(check *gokit.Checks, address string) {
	client := connect(address)
	for _, size := range []int{0, 1, 4096, 65536, 500000, 1000000} {
		want := bytes.Repeat([]byte("\x00\xff\r\nEND\r\n0123456789"), size/19+1)[:size]
		check.OK(client.Set(&memcache.Item{Key: "v:k", Value: want}), "Set")
		it, err := client.Get("v:k")
		check.Bytes(value(it), err, string(want), fmt.Sprintf("a value of %d bytes", size))
	}
	huge := &memcache.Item{Key: "v:huge", Value: make([]byte, 1<<20+1)}
	err := client.Set(huge)
	check.True(err != nil && strings.Contains(err.Error(), "SERVER_ERROR"), "a value over the limit")
	longest := strings.Repeat("k", 250)
	check.OK(client.Set(item(longest, "long")), "Set of a key of 250 bytes")
	it, err := client.Get(longest)
	check.Bytes(value(it), err, "long", "Get of a key of 250 bytes")
	_, err = client.Get(longest + "k")
	check.Error(err, memcache.ErrMalformedKey, "Get of a key of 251 bytes")
}

func flush(check *gokit.Checks, address string) {
	client := connect(address)
	check.OK(client.Set(item("f:k", "v")), "Set")
	check.OK(client.DeleteAll(), "DeleteAll")
	_, err := client.Get("f:k")
	check.Error(err, memcache.ErrCacheMiss, "Get after DeleteAll")
	check.OK(client.Set(item("f:k", "v")), "Set after DeleteAll")
	check.OK(client.FlushAll(), "FlushAll")
	_, err = client.Get("f:k")
	check.Error(err, memcache.ErrCacheMiss, "Get after FlushAll")
	check.OK(client.Set(item("f:k", "v")), "Set after FlushAll")
	it, err := client.Get("f:k")
	check.Bytes(value(it), err, "v", "Get after FlushAll and Set")
}
