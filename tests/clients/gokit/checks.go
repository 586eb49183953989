// Package gokit is what the Go client programs share: counted assertions, the frame of a program,
// and the few commands that Debian's gomemcache lacks.
package gokit

import (
	"bytes"
	"fmt"
	"os"
	"time"
)

// Patience bounds a wait for something that must happen; nothing passes or fails by being quick.
const Patience = 20 * time.Second

// Checks counts expectations. The first that does not hold ends the program with status 1.
type Checks struct {
	program, section string
	count            int
}

// Section is a named part of a program.
type Section struct {
	Name string
	Run  func(check *Checks, address string)
}

// Main runs the sections against the server named on the command line, HOST:PORT, which is empty.
func Main(program string, sections []Section) {
	if len(os.Args) != 2 {
		fmt.Fprintf(os.Stderr, "usage: %s HOST:PORT\n", program)
		os.Exit(1)
	}
	check := &Checks{program: program}
	for _, section := range sections {
		before := check.count
		check.section = section.Name
		section.Run(check, os.Args[1])
		fmt.Printf("  %s: %d\n", section.Name, check.count-before)
	}
	fmt.Printf("%s: %d checks\n", program, check.count)
}

// Fail ends the program. Only the goroutine that runs the sections may call it or the checks below.
func (c *Checks) Fail(format string, args ...interface{}) {
	fmt.Fprintf(os.Stderr, "%s: FAILED in %s: %s\n", c.program, c.section, fmt.Sprintf(format, args...))
	os.Exit(1)
}

// True counts a condition that must hold.
func (c *Checks) True(condition bool, what string) {
	if !condition {
		c.Fail("%s", what)
	}
	c.count++
}

// OK counts a call that must not fail.
func (c *Checks) OK(err error, what string) {
	if err != nil {
		c.Fail("%s: %v", what, err)
	}
	c.count++
}

// Error counts a call that must fail with exactly this error.
func (c *Checks) Error(got, want error, what string) {
	if got != want {
		c.Fail("%s: expected the error %v, got %v", what, want, got)
	}
	c.count++
}

// Bytes counts a value that must have come.
func (c *Checks) Bytes(got []byte, err error, want, what string) {
	if err != nil {
		c.Fail("%s: %v", what, err)
	}
	if !bytes.Equal(got, []byte(want)) {
		c.Fail("%s: expected %.100q, got %.100q (%d and %d bytes)", what, want, got, len(want), len(got))
	}
	c.count++
}

// Number counts a number that must have come.
func (c *Checks) Number(got uint64, err error, want uint64, what string) {
	if err != nil || got != want {
		c.Fail("%s: expected %d, got %d, error %v", what, want, got, err)
	}
	c.count++
}

// Eventually waits until the condition holds, for memcached's clock moves in whole seconds.
func (c *Checks) Eventually(condition func() bool, what string) {
	for deadline := time.Now().Add(Patience); !condition(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			c.Fail("%s: not within %v", what, Patience)
		}
	}
	c.count++
}

// Together runs work(0) to work(n-1) at once, waits for all, and counts that none failed.
func (c *Checks) Together(n int, what string, work func(index int) error) {
	errs := make(chan error, n)
	for index := 0; index < n; index++ {
		go func(index int) { errs <- work(index) }(index)
	}
	for index := 0; index < n; index++ {
		if err := <-errs; err != nil {
			c.Fail("%s: %v", what, err)
		}
	}
	c.count++
}
