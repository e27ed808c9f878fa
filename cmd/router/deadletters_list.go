package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf8"
)

// rawLettersPage is a page of a list whose letters are passed on as they came.
type rawLettersPage struct {
	Letters []json.RawMessage `json:"dead_letters"`
	Next    string            `json:"next"`
}

type lettersListCmd struct {
	lettersFlags
	filterFlags
	Limit int   `default:"50" help:"At most so many; 0: all."`
	Past  int64 `help:"Go on behind the one with this number." placeholder:"N"`
	JSON  bool  `help:"One JSON object per line, with the event."`
}

// Help is shown by router deadletters list --help.
func (lettersListCmd) Help() string {
	return `Asks the router that runs, or reads its data directory where none does.`
}

// Run implements the command.
func (c *lettersListCmd) Run(ctx context.Context, s streams) error {
	if c.Limit < 0 || c.Past < 0 {
		return usageError{errors.New("--limit and --past must not be negative")}
	}
	f, err := c.filter()
	if err != nil {
		return err
	}
	l, err := c.find(ctx, false)
	if errors.Is(err, errNeverRan) {
		fmt.Fprintln(s.err, err)
		return nil
	}
	if err != nil {
		return err
	}
	defer l.close()
	o := eachOptions{bodies: c.JSON, past: c.Past, page: 1000}
	if c.Limit > 0 {
		o.page = min(o.page, c.Limit+1) // one more tells whether there are more
	}
	w := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
	n, last := 0, int64(0)
	err = l.each(ctx, f, o, func(data []byte) error {
		if n == c.Limit && n > 0 {
			fmt.Fprintf(s.err, "there are more: --limit, or --past %d\n", last)
			return errEnough
		}
		var d shownLetter
		if err := json.Unmarshal(data, &d); err != nil {
			return err
		}
		n, last = n+1, d.ID
		if c.JSON {
			_, err := fmt.Fprintf(s.out, "%s\n", data)
			return err
		}
		if n == 1 {
			fmt.Fprintln(w, "ID\tTIME\tDESTINATION\tLANE\tREASON\tATTEMPTS\tEVENT\tEVENT ID\tPERSON\tREPLAY\tERROR")
		}
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%d\t%s\t%s\t%s\t%s\t%s\n", d.ID, d.At.UTC().Format(time.RFC3339), cell(ofAccount(d.Destination, d.Account)), cell(d.Lane), d.Reason,
			d.Attempts, cell(d.EventType), cell(d.EventID), cell(d.Person), d.replayWord(), cell(d.Error))
		return nil
	})
	if err == nil && n == 0 && !c.JSON {
		fmt.Fprintln(s.out, "no dead letters")
	}
	return errors.Join(err, w.Flush())
}

// replayWord is how it stands with replays, in a word.
func (d *shownLetter) replayWord() string {
	switch {
	case d.Replay != nil:
		return "marked"
	case d.Problem != "":
		return "stopped"
	case d.Replays > 0:
		return "came back"
	default:
		return "-"
	}
}

// ofAccount is a destination, with the customer's account where it delivers to such.
func ofAccount(destination, account string) string {
	if account == "" {
		return destination
	}
	return destination + " (" + account + ")"
}

type lettersShowCmd struct {
	lettersFlags
	IDs  []int64 `arg:"" name:"id" help:"Their numbers, as list shows them."`
	JSON bool    `help:"One JSON object per line."`
}

// Help is shown by router deadletters show --help.
func (lettersShowCmd) Help() string {
	return `Shows the event as it was to be delivered and, where a transform made it, the original as it came. Secrets of the configuration and what server.redact
names are ***.`
}

// Run implements the command.
func (c *lettersShowCmd) Run(ctx context.Context, s streams) error {
	l, err := c.find(ctx, false)
	if err != nil {
		return err
	}
	defer l.close()
	var missing []string
	for i, id := range c.IDs {
		found := false
		err := l.each(ctx, letterFilter{IDs: []int64{id}}, eachOptions{bodies: true, page: 1}, func(data []byte) error {
			found = true
			if c.JSON {
				_, err := fmt.Fprintf(s.out, "%s\n", data)
				return err
			}
			if i > 0 {
				fmt.Fprintln(s.out)
			}
			return writeLetter(s.out, data)
		})
		if err != nil {
			return err
		}
		if !found {
			missing = append(missing, fmt.Sprint(id))
		}
	}
	if missing != nil {
		return fmt.Errorf("there is no dead letter %s", strings.Join(missing, ", "))
	}
	return nil
}

// writeLetter writes a dead letter for people.
func writeLetter(w io.Writer, data []byte) error {
	var d shownLetter
	if err := json.Unmarshal(data, &d); err != nil {
		return err
	}
	var b bytes.Buffer
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	row := func(name, value string) {
		if value != "" {
			fmt.Fprintf(t, "  %s\t%s\n", name, line(value))
		}
	}
	fmt.Fprintf(t, "dead letter %d\n", d.ID)
	row("became dead", d.At.UTC().Format(time.RFC3339Nano))
	row("received", d.Received.UTC().Format(time.RFC3339Nano))
	row("destination", d.Destination)
	row("hub", d.Hub)
	row("account", d.Account)
	row("lane", d.Lane)
	row("API key", d.APIKey)
	row("event", d.EventType)
	row("event id", d.EventID)
	row("person", d.Person)
	if d.Outputs > 1 || d.Index > 0 {
		row("output", fmt.Sprintf("%d of %d (from 0)", d.Index, d.Outputs))
	}
	row("attempts", fmt.Sprint(d.Attempts))
	row("reason", d.Reason)
	row("error", d.Error)
	if d.Replays > 0 {
		row("replayed", count(d.Replays, "time")+" before it came back")
	}
	if d.Replay != nil {
		row("replay", "marked: "+d.Replay.words())
	}
	row("replay stopped", d.Problem)
	row("damaged", d.Damaged)
	if err := t.Flush(); err != nil {
		return err
	}
	for _, part := range []struct {
		name string
		json []byte
	}{{"event", d.Event}, {"original", d.Original}} {
		if len(part.json) == 0 {
			continue
		}
		fmt.Fprintf(&b, "\n  %s\n    ", part.name)
		if err := json.Indent(&b, part.json, "    ", "  "); err != nil {
			return err
		}
		b.WriteByte('\n')
	}
	_, err := io.WriteString(w, strings.Map(func(r rune) rune { // texts in events are from outside, as in cell
		if r == '\n' || unicode.IsGraphic(r) {
			return r
		}
		return utf8.RuneError
	}, b.String()))
	return err
}

func (r *shownReplay) words() string {
	words := "from the original event"
	if r.AsIs {
		words = "as it was"
	}
	if r.Overwrite {
		words += ", overwriting what came later"
	}
	if r.All {
		words += ", all outputs"
	}
	return words
}
