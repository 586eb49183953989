// Counters driven by gomemcache from many goroutines: `gocounters HOST:PORT GOROUTINES KEY...`.
//
// All goroutines share one client, whose pool keeps two connections and closes the rest again and again: what
// one reads comes on one connection, and is swapped on another. It goes on until its standard input ends; then
// each goroutine counts each counter up once more. Each thing that it was told is a line of its output:
//
//	swap GOROUTINE KEY TOKEN VALUE stored|exists|gone
//	swap GOROUTINE KEY TOKEN VALUE unknown ERROR
//	refused ERROR
//	hold KEY TOKEN
//	release KEY TOKEN
//	done
//
// KEY is the number of a key, VALUE what was read: EPOCH.COUNT, of which COUNT + 1 was to be stored.
package main

import (
	"fmt"
	"io"
	"math/rand"
	"os"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bradfitz/gomemcache/memcache"
)

// Nobody else's epochs are as large.
const firstEpoch = 1000000000

// A token that has been held for longer is not used.
const tokenHeldMax = 2500 * time.Millisecond

// Patience bounds what must happen when nothing is in the way any more.
const patience = 30 * time.Second

type counters struct {
	client *memcache.Client
	keys   []string
	epoch  int64
	over   chan struct{}
	lock   sync.Mutex
}

func main() {
	if len(os.Args) < 4 {
		fail("usage: gocounters HOST:PORT GOROUTINES KEY...")
	}
	goroutines, err := strconv.Atoi(os.Args[2])
	if err != nil {
		fail("%v", err)
	}
	client := memcache.New(os.Args[1])
	// The default of 100 ms would let a busy machine decide.
	client.Timeout = 10 * time.Second
	c := &counters{client: client, keys: os.Args[3:], epoch: firstEpoch, over: make(chan struct{})}
	go func() {
		io.Copy(io.Discard, os.Stdin)
		close(c.over)
	}()
	var all sync.WaitGroup
	for number := 0; number < goroutines; number++ {
		all.Add(1)
		go func(number int) {
			defer all.Done()
			c.run(number)
		}(number)
	}
	all.Wait()
	c.say("done")
}

func fail(format string, args ...interface{}) {
	fmt.Fprintf(os.Stderr, "gocounters: "+format+"\n", args...)
	os.Exit(1)
}

// say writes a line at once: somebody looks at the tokens that are held.
func (c *counters) say(format string, args ...interface{}) {
	c.lock.Lock()
	defer c.lock.Unlock()
	if _, err := fmt.Printf(format+"\n", args...); err != nil {
		os.Exit(1)
	}
}

func (c *counters) run(number int) {
	random := rand.New(rand.NewSource(int64(number)))
	for !c.isOver() {
		c.count(number, random.Intn(len(c.keys)), random)
		// The client opens a connection for most requests: without a pause it would use up all ports.
		time.Sleep(time.Duration(1+random.Intn(8)) * time.Millisecond)
	}
	for key := range c.keys {
		for deadline := time.Now().Add(patience); !c.count(number, key, random); {
			if time.Now().After(deadline) {
				fail("goroutine %d cannot count %s within %v", number, c.keys[key], patience)
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
}

func (c *counters) isOver() bool {
	select {
	case <-c.over:
		return true
	default:
		return false
	}
}

// count counts a counter up by one, if it can; says whether it did.
func (c *counters) count(number, key int, random *rand.Rand) bool {
	asked := time.Now()
	item, err := c.client.Get(c.keys[key])
	if err == memcache.ErrCacheMiss {
		c.create(key)
		return false
	}
	if err != nil {
		c.say("refused %s", words(err))
		return false
	}
	value := string(item.Value)
	item.Value = next(value)
	token := reflect.ValueOf(item).Elem().FieldByName("casid").Uint()
	// Now and then long enough for a fault between reading and swapping.
	if random.Intn(100) < 2 {
		c.say("hold %d %d", key, token)
		time.Sleep(time.Duration(1+random.Intn(700)) * time.Millisecond)
		c.say("release %d %d", key, token)
	}
	if time.Since(asked) > tokenHeldMax {
		return false
	}
	switch err = c.client.CompareAndSwap(item); err {
	case nil:
		c.say("swap %d %d %d %s stored", number, key, token, value)
		return true
	case memcache.ErrCASConflict:
		c.say("swap %d %d %d %s exists", number, key, token, value)
	case memcache.ErrCacheMiss:
		c.say("swap %d %d %d %s gone", number, key, token, value)
	default:
		c.say("swap %d %d %d %s unknown %s", number, key, token, value, words(err))
	}
	return false
}

// create makes a new item, of which all that is counted is counted anew.
func (c *counters) create(key int) {
	value := fmt.Sprintf("%d.0", atomic.AddInt64(&c.epoch, 1))
	err := c.client.Add(&memcache.Item{Key: c.keys[key], Value: []byte(value)})
	if err != nil && err != memcache.ErrNotStored {
		c.say("refused %s", words(err))
	}
}

// next is the value with a count of one more.
func next(value string) []byte {
	parts := strings.SplitN(value, ".", 2)
	if len(parts) == 2 {
		if count, err := strconv.ParseUint(parts[1], 10, 64); err == nil {
			return []byte(fmt.Sprintf("%s.%d", parts[0], count+1))
		}
	}
	fail("%q is no counter", value)
	return nil
}

// words are what the server said, without what the client puts around it; on one line.
func words(err error) string {
	text := err.Error()
	if at := strings.Index(text, "SERVER_ERROR"); at >= 0 {
		text = strings.TrimRight(text[at:], "\"\\rn")
	}
	return strings.Join(strings.Fields(text), " ")
}
