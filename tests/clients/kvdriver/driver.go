package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/bradfitz/gomemcache/memcache"
)

// Errors of the driver. A caller never sees gomemcache's.
var (
	ErrNotFound = errors.New("kv: key not found")
	ErrConflict = errors.New("kv: too many conflicts")
)

// Driver is a key-value store on gomemcache as applications wrap it: durations for expiry, a miss
// as an error of its own, batches, and compare-and-swap by a callback that is called again after a
// lost race.
type Driver struct {
	client *memcache.Client
	// Retries of CompareAndSwap before it gives up.
	Retries int
}

// Open returns a driver for one server.
func Open(address string) *Driver {
	client := memcache.New(address)
	client.Timeout = 10 * time.Second
	return &Driver{client: client, Retries: 1000}
}

// Client is the raw client, for what the driver does not wrap.
func (d *Driver) Client() *memcache.Client { return d.client }

// Set stores a value; a TTL of 0 is for ever.
func (d *Driver) Set(key string, value []byte, ttl time.Duration) error {
	return d.client.Set(newItem(key, value, ttl))
}

// SetNX stores a value only when the key is absent, and says whether it did.
func (d *Driver) SetNX(key string, value []byte, ttl time.Duration) (bool, error) {
	return stored(d.client.Add(newItem(key, value, ttl)))
}

// SetXX stores a value only when the key is present, and says whether it did.
func (d *Driver) SetXX(key string, value []byte, ttl time.Duration) (bool, error) {
	return stored(d.client.Replace(newItem(key, value, ttl)))
}

// Get returns the value of a key, or ErrNotFound.
func (d *Driver) Get(key string) ([]byte, error) {
	item, err := d.client.Get(key)
	if err != nil {
		return nil, translate(err)
	}
	return item.Value, nil
}

// Delete removes a key; an absent one is no error.
func (d *Driver) Delete(key string) error {
	if err := d.client.Delete(key); err != memcache.ErrCacheMiss {
		return err
	}
	return nil
}

// MGet returns the values of those keys that are present.
func (d *Driver) MGet(keys ...string) (map[string][]byte, error) {
	items, err := d.client.GetMulti(keys)
	if err != nil {
		return nil, translate(err)
	}
	values := make(map[string][]byte, len(items))
	for key, item := range items {
		values[key] = item.Value
	}
	return values, nil
}

// MSet stores all pairs at once, as memcached has no command for that: one goroutine each.
func (d *Driver) MSet(pairs map[string][]byte, ttl time.Duration) error {
	errs := make(chan error, len(pairs))
	for key, value := range pairs {
		go func(key string, value []byte) { errs <- d.Set(key, value, ttl) }(key, value)
	}
	var first error
	for range pairs {
		if err := <-errs; err != nil && first == nil {
			first = err
		}
	}
	return first
}

// CompareAndSwap replaces the value of a key by what change makes of it. After a lost race change
// is called again with the newer value; an error of change ends it and is returned.
func (d *Driver) CompareAndSwap(key string, ttl time.Duration, change func([]byte) ([]byte, error)) error {
	for try := 0; try <= d.Retries; try++ {
		item, err := d.client.Get(key)
		if err != nil {
			return translate(err)
		}
		if item.Value, err = change(item.Value); err != nil {
			return err
		}
		item.Expiration = seconds(ttl)
		if err = d.client.CompareAndSwap(item); err != memcache.ErrCASConflict {
			return translate(err)
		}
	}
	return fmt.Errorf("%w: %s", ErrConflict, key)
}

func newItem(key string, value []byte, ttl time.Duration) *memcache.Item {
	return &memcache.Item{Key: key, Value: value, Expiration: seconds(ttl)}
}

// seconds rounds up: a TTL under a second must not become 0, which is for ever.
func seconds(ttl time.Duration) int32 {
	return int32((ttl + time.Second - 1) / time.Second)
}

func stored(err error) (bool, error) {
	if err == memcache.ErrNotStored {
		return false, nil
	}
	return err == nil, err
}

func translate(err error) error {
	if err == memcache.ErrCacheMiss {
		return ErrNotFound
	}
	return err
}
