// Command router takes analytics events from applications and delivers them to HubSpot.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	_ "time/tzdata" // a box may have no time zones of its own, and settings name them

	"eventrouter/pkg/config"
)

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1 // a failure at run time
	exitUsage  = 2 // a wrong command line or configuration
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal does not wait for the grace time: it kills
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, message(err))
	}
	os.Exit(exitCode(err))
}

// usageError is a wrong command line or configuration.
type usageError struct{ err error }

// Error is the text of the error that it wraps.
func (e usageError) Error() string { return e.err.Error() }

// Unwrap returns the error that it wraps.
func (e usageError) Unwrap() error { return e.err }

func exitCode(err error) int {
	var usage usageError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &usage):
		return exitUsage
	default:
		return exitFailed
	}
}

// message is how an error is told on the terminal: lines with a place in a file stand alone, as editors and CI look for them.
func message(err error) string {
	var problems config.Problems
	if errors.As(err, &problems) {
		return fmt.Sprintf("router: the configuration has %s\n%v", count(len(problems), "problem"), problems)
	}
	return "router: " + err.Error()
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// streams are where a command writes: out for what was asked for, err for logs.
type streams struct{ out, err io.Writer }
