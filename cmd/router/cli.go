package main

import (
	"context"
	"fmt"
	"io"
	stdlog "log"
	"strings"

	"github.com/alecthomas/kong"
)

// cli is the command line. Kong, not Cobra: commands are plain structs that tests can fill in, it brings no dependency of its own, and its
// help shows defaults and environment variables by itself.
type cli struct {
	Serve       serveCmd       `cmd:"" default:"withargs" help:"Run the router (also the default command)."`
	Check       checkCmd       `cmd:"" help:"Check a configuration file and report everything that is wrong with it."`
	Test        testCmd        `cmd:"" help:"Run a team's own cases: events in, expected requests out."`
	Demo        demoCmd        `cmd:"" help:"Show the whole way of events into a HubSpot sandbox. Needs no account and no set-up."`
	Sandbox     sandboxCmd     `cmd:"" help:"Run the HubSpot sandbox alone, to point a router or a HubSpot client at."`
	Deadletters deadlettersCmd `cmd:"" help:"Look at events that could not be delivered."`
	Send        sendCmd        `cmd:"" help:"Upload files of events to a router."`
	Try         tryCmd         `cmd:"" help:"Show what would become of events, and what would be sent, without sending anything."`
	Schema      schemaCmd      `cmd:"" help:"Store what is known of the remote accounts, for try."`
	Status      statusCmd      `cmd:"" help:"Tell how the router is: lanes, what waits, logs, store, disk, dead letters, last errors."`
	Lanes       lanesCmd       `cmd:"" help:"List lanes; move or drop what waits in lanes whose destination is gone or delivers elsewhere."`
	Connections connectionsCmd `cmd:"" help:"Customers' HubSpot accounts: list them, make install links, disconnect one."`
	Explain     explainCmd     `cmd:"" help:"Tell what became of an event, or of a person's last events."`
	Forget      forgetCmd      `cmd:"" help:"Erase all that is held of a person."`
	Log         logCmd         `cmd:"" help:"Repair the log of accepted events."`
	Keygen      keygenCmd      `cmd:"" help:"Print a new key for server.encryption."`
	Keys        keysCmd        `cmd:"" help:"Make keys for the tokens of end users."`
	Token       tokenCmd       `cmd:"" help:"Sign a token of an end user, for tests."`
	Version     versionCmd     `cmd:"" help:"Print the version."`

	ImportConfig importConfigCmd `cmd:"" help:"Make a configuration of one of Jitsu's, and report what it could not carry over."`
}

// configFlag is the flag that names the configuration file.
type configFlag struct {
	Config string `short:"c" env:"CONFIG_LOCATION" default:"router.yaml" placeholder:"FILE" help:"Configuration file (YAML; a Jitsu file works), router.yaml if nothing names one. Also -cfg FILE."`
}

const description = `The event router for HubSpot: applications post analytics events (SDKs of Jitsu, Segment and RudderStack, plain HTTP,
files), the router makes each one durable before it answers, transforms and filters it for each destination, and delivers it. In HubSpot, user_identify
events create or update contacts, all others become custom events.

Start here:

  router demo                        see it work, without an account
  router check --config router.yaml  check a configuration
  router serve --config router.yaml  run

Exit status: 0 all is well, 1 a failure at run time, 2 a wrong command line or configuration.`

// run does what the command line args ask for.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	stdlog.SetOutput(io.Discard) // net/http quotes there what it does not expect of an answer, which may be of a person
	var c cli
	exited := false
	parser, err := kong.New(
		&c, kong.Name("router"), kong.Description(description), kong.Writers(stdout, stderr),
		kong.Exit(func(int) { exited = true }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 100}),
	)
	if err != nil {
		return fmt.Errorf("BUG: command line: %w", err)
	}
	command, err := parser.Parse(jitsuFlags(args))
	if exited { // after --help
		return nil
	}
	if err != nil {
		if flag, _, missing := strings.Cut(err.Error(), `: expected string value but got "EOL"`); missing {
			err = fmt.Errorf("%s needs a value", flag)
		}
		return usageError{fmt.Errorf("%w (see router --help)", err)}
	}
	command.BindTo(ctx, (*context.Context)(nil))
	return command.Run(streams{stdout, stderr})
}

// jitsuFlags turns Jitsu's -cfg FILE and -cfg=FILE into --config, and -update, as Go's tests have it, into --update.
func jitsuFlags(args []string) []string {
	out := make([]string, 0, len(args))
	for _, a := range args {
		name, value, hasValue := strings.Cut(a, "=")
		switch {
		case a == "-update":
			out = append(out, "--update")
		case name != "-cfg" && name != "--cfg":
			out = append(out, a)
		case hasValue:
			out = append(out, "--config="+value)
		default:
			out = append(out, "--config")
		}
	}
	return out
}
