package main

import (
	"context"
	"encoding/json"
	"flag"
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
		waitTogether()
		if os.Getenv("GORACE") == "" { // a child with the race detector waits for a second when it ends
			os.Setenv("GORACE", "atexit_sleep_ms=50")
		}
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

// waitTogether lets more tests run at a time than there are processors, unless the command line says how many: those that do mostly wait.
func waitTogether() {
	flag.Parse()
	said := false
	flag.Visit(func(f *flag.Flag) { said = said || f.Name == "test.parallel" })
	if !said {
		_ = flag.Set("test.parallel", "8") // it is a number
	}
}
