package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/term"
)

type lettersDropCmd struct {
	lettersFlags
	filterFlags
	Everything bool `help:"All dead letters that there are, where nothing is filtered by."`
	DryRun     bool `name:"dry-run" help:"Only tell how many, by destination and reason."`
	Yes        bool `help:"Do not ask. Needed where nobody can be asked."`
}

// Help is shown by router deadletters drop --help.
func (lettersDropCmd) Help() string {
	return `What is dropped is gone: export it before (router deadletters export).`
}

// Run implements the command.
func (c *lettersDropCmd) Run(ctx context.Context, s streams) error {
	f, err := c.some(c.Everything, "dropped")
	if err != nil {
		return err
	}
	l, err := c.find(ctx, true)
	if err != nil {
		return err
	}
	defer l.close()
	found, err := c.drop(ctx, l, f, true)
	if err != nil {
		return err
	}
	if found.Found.Letters == 0 {
		fmt.Fprintln(s.out, "no dead letters")
		return nil
	}
	if err := tellGroups(s, found.Found); err != nil || c.DryRun {
		return err
	}
	if !c.Yes {
		if err := confirmed(s, fmt.Sprintf("Drop %s for good? [y/N] ", count(int(found.Found.Letters), "dead letter"))); err != nil {
			return err
		}
	}
	done, err := c.drop(ctx, l, f, false)
	if err != nil {
		return err
	}
	fmt.Fprintf(s.out, "%s dropped\n", count(int(done.Dropped), "dead letter"))
	return nil
}

func (c *lettersDropCmd) drop(ctx context.Context, l *deadLetters, f letterFilter, dry bool) (all dropAnswer, err error) {
	for _, part := range f.byIDs(maxLetterIDs) {
		var got dropAnswer
		err := l.post(ctx, "/drop", dropChange{lettersChange: lettersChange{letterFilter: part, Everything: c.Everything, DryRun: dry}}, &got)
		if err != nil {
			return all, err
		}
		all.Dropped += got.Dropped
		all.Found.add(got.Found)
	}
	return all, nil
}

// confirmed asks a person; nil: yes.
func confirmed(s streams, question string) error {
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		return usageError{errors.New("nobody can be asked here: say --yes")}
	}
	fmt.Fprint(s.err, question)
	answer, err := bufio.NewReader(os.Stdin).ReadString('\n')
	if err != nil || !strings.EqualFold(strings.TrimSpace(answer), "y") && !strings.EqualFold(strings.TrimSpace(answer), "yes") {
		return errors.New("nothing is dropped")
	}
	return nil
}
