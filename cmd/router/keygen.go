package main

import (
	"fmt"

	"eventrouter/pkg/seal"
)

type keygenCmd struct{}

// Help is shown by router keygen --help.
func (keygenCmd) Help() string {
	return `Prints a key on standard output. Keep it where the configuration finds it, in a file or a variable, and a copy of it elsewhere: without it
what it has encrypted is lost. For example:

  (umask 077; router keygen > /etc/router/key)

  server:
    encryption:
      key_file: /etc/router/key`
}

// Run implements the command.
func (keygenCmd) Run(s streams) error {
	_, err := fmt.Fprintln(s.out, seal.NewKey())
	return err
}
