package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"testing"
)

// childArgs is the variable that makes the test binary be a router with these arguments, to be killed.
const childArgs = "ROUTER_TEST_ARGS"

func TestMain(m *testing.M) {
	text := os.Getenv(childArgs)
	if text == "" {
		os.Exit(m.Run())
	}
	destinationTypes["deadly"] = newDeadly
	var args []string
	err := json.Unmarshal([]byte(text), &args)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	if err == nil {
		err = run(ctx, args, os.Stdout, os.Stderr)
	}
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, message(err))
	}
	os.Exit(exitCode(err))
}
