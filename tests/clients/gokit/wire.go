package gokit

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/bradfitz/gomemcache/memcache"
)

// Wire sends the commands that gomemcache gained after the version Debian packages (of 2014, which
// has no Append, Prepend, GetAndTouch and Ping), in the form in which the later versions send them
// and with their errors, over a connection of its own.
type Wire struct {
	conn net.Conn
	rw   *bufio.ReadWriter
}

// Dial opens a connection; each later call is bounded by 10 seconds.
func Dial(address string) (*Wire, error) {
	conn, err := net.DialTimeout("tcp", address, 10*time.Second)
	if err != nil {
		return nil, err
	}
	return &Wire{conn, bufio.NewReadWriter(bufio.NewReader(conn), bufio.NewWriter(conn))}, nil
}

// Close closes the connection.
func (w *Wire) Close() error { return w.conn.Close() }

// Append adds the item's value behind the stored one; ErrNotStored when there is none.
func (w *Wire) Append(item *memcache.Item) error { return w.store("append", item) }

// Prepend adds the item's value before the stored one; ErrNotStored when there is none.
func (w *Wire) Prepend(item *memcache.Item) error { return w.store("prepend", item) }

// GetAndTouch gets an item and sets its expiry, in seconds; ErrCacheMiss when there is none.
func (w *Wire) GetAndTouch(key string, expiration int32) (*memcache.Item, error) {
	line, err := w.line("gat %d %s\r\n", expiration, key)
	if err != nil {
		return nil, err
	}
	if line == "END" {
		return nil, memcache.ErrCacheMiss
	}
	item, size := &memcache.Item{}, 0
	if _, err := fmt.Sscanf(line, "VALUE %s %d %d", &item.Key, &item.Flags, &size); err != nil {
		return nil, fmt.Errorf("unexpected answer to gat: %q", line)
	}
	rest := make([]byte, size+len("\r\nEND\r\n"))
	if _, err := io.ReadFull(w.rw, rest); err != nil {
		return nil, err
	}
	if string(rest[size:]) != "\r\nEND\r\n" {
		return nil, fmt.Errorf("unexpected end of the answer to gat: %q", rest[size:])
	}
	item.Value = rest[:size]
	return item, nil
}

// Ping asks for the version and fails when the answer is none.
func (w *Wire) Ping() error {
	line, err := w.line("version\r\n")
	if err == nil && !strings.HasPrefix(line, "VERSION ") {
		err = fmt.Errorf("unexpected answer to version: %q", line)
	}
	return err
}

func (w *Wire) store(verb string, item *memcache.Item) error {
	line, err := w.line("%s %s %d %d %d\r\n%s\r\n",
		verb, item.Key, item.Flags, item.Expiration, len(item.Value), item.Value)
	switch {
	case err != nil:
		return err
	case line == "STORED":
		return nil
	case line == "NOT_STORED":
		return memcache.ErrNotStored
	}
	return fmt.Errorf("unexpected answer to %s: %q", verb, line)
}

// line sends a request and reads the first line of its answer, without the end of the line.
func (w *Wire) line(format string, args ...interface{}) (string, error) {
	if err := w.conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return "", err
	}
	fmt.Fprintf(w.rw, format, args...)
	if err := w.rw.Flush(); err != nil {
		return "", err
	}
	line, err := w.rw.ReadString('\n')
	return strings.TrimSuffix(line, "\r\n"), err
}
