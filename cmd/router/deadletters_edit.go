package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/tidwall/sjson"

	"eventrouter/pkg/export"
	"eventrouter/pkg/store"
)

type lettersEditCmd struct {
	lettersFlags
	ID   int64    `arg:"" name:"id" help:"Its number, as list shows it."`
	Set  []string `sep:"none" placeholder:"PATH=JSON" help:"Set one member: user.email='\"ada@example.com\"'. Repeatable."`
	File string   `placeholder:"FILE" help:"Take the event from this file; - is standard input. Default: $VISUAL or $EDITOR on the event."`
	AsIs bool     `name:"as-is" help:"Change what a transform made of the original, which replay --as-is sends. Default: the original, where there is one."`
	Type bool     `name:"other-type" help:"The event's type may change."`
}

// Help is shown by router deadletters edit --help.
func (lettersEditCmd) Help() string {
	return `Changes the JSON of the event. What the router itself noted stays: API key, event id, receipt, address. The event is shown whole, also what server.redact hides
elsewhere: it would be lost otherwise. It must be one JSON object within the limits for events.

  router deadletters edit 17
  router deadletters edit 17 --set user.email='"ada@example.com"'`
}

// Run implements the command.
func (c *lettersEditCmd) Run(ctx context.Context, s streams) error {
	if c.File != "" && len(c.Set) > 0 {
		return usageError{errors.New("--set and --file: one of them")}
	}
	l, err := c.find(ctx, true)
	if err != nil {
		return err
	}
	defer l.close()
	var was editableLetter
	if err := l.get(ctx, "/edit", url.Values{"id": {fmt.Sprint(c.ID)}}, &was); err != nil {
		return err
	}
	before, original := was.Event, false
	if was.Original != nil && !c.AsIs {
		before, original = was.Original, true
	}
	after, kept, err := c.edited(ctx, s, before)
	if err != nil {
		return withKept(err, kept)
	}
	if err := export.CheckObject(after); err != nil {
		return withKept(usageError{fmt.Errorf("the event is refused: %w", err)}, kept)
	}
	if isSameJSON(before, after) {
		remove(kept)
		fmt.Fprintln(s.out, "nothing changed")
		return nil
	}
	change := letterEdit{ID: c.ID, Checksum: was.Checksum, OtherType: c.Type}
	if original {
		change.Original = after
	} else {
		change.Event = after
	}
	var done edited
	if err := l.post(ctx, "/edit", change, &done); err != nil {
		return withKept(err, kept)
	}
	remove(kept)
	fmt.Fprintf(s.out, "dead letter %d is changed; router deadletters replay %d sends it\n", c.ID, c.ID)
	return nil
}

// edited returns the event as it is to be, and the file that holds it, "" for none.
func (c *lettersEditCmd) edited(ctx context.Context, s streams, before []byte) (after []byte, kept string, err error) {
	switch {
	case len(c.Set) > 0:
		after, err = withMembers(before, c.Set)
	case c.File == "-":
		after, err = io.ReadAll(os.Stdin)
	case c.File != "":
		after, err = os.ReadFile(c.File)
	default:
		return inEditor(ctx, s, c.ID, before)
	}
	return after, "", err
}

// withMembers sets members of an event.
func withMembers(before []byte, set []string) ([]byte, error) {
	after := bytes.Clone(before)
	for _, text := range set {
		path, value, ok := strings.Cut(text, "=")
		switch {
		case !ok || path == "":
			return nil, usageError{fmt.Errorf("--set %s: write PATH=JSON", cell(text))}
		case !json.Valid([]byte(value)):
			return nil, usageError{fmt.Errorf("--set %s: what stands behind = is no JSON; texts have quotes: %s='\"text\"'", cell(text), cell(path))}
		}
		var err error
		if after, err = sjson.SetRawBytes(after, path, []byte(value)); err != nil {
			return nil, usageError{fmt.Errorf("--set %s: %w", cell(text), err)}
		}
	}
	return after, nil
}

// inEditor has a person edit an event, in a file that nobody else may read.
func inEditor(ctx context.Context, s streams, id int64, before []byte) (after []byte, kept string, err error) {
	editor := cmp.Or(os.Getenv("VISUAL"), os.Getenv("EDITOR"))
	if editor == "" {
		return nil, "", usageError{errors.New("no editor: set EDITOR, or use --set or --file")}
	}
	dir, err := os.MkdirTemp("", "router-edit-") // 0700
	if err != nil {
		return nil, "", err
	}
	file := filepath.Join(dir, fmt.Sprintf("dead-letter-%d.json", id))
	var text bytes.Buffer
	if err := json.Indent(&text, before, "", "  "); err != nil {
		remove(file)
		return nil, "", err
	}
	text.WriteByte('\n')
	if err := os.WriteFile(file, text.Bytes(), 0o600); err != nil {
		remove(file)
		return nil, "", err
	}
	// An editor may be named with options: "code --wait".
	cmd := exec.CommandContext(ctx, "sh", "-c", editor+` "$1"`, "sh", file)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, s.out, s.err
	if err := cmd.Run(); err != nil {
		remove(file)
		return nil, "", fmt.Errorf("the editor (%s) failed, nothing is changed: %w", cell(editor), err)
	}
	after, err = os.ReadFile(file)
	return after, file, err
}

// remove removes the file of inEditor.
func remove(file string) {
	if file != "" {
		_ = os.RemoveAll(filepath.Dir(file)) // it is in a directory of its own
	}
}

// withKept says where the work of a person is whose result was refused.
func withKept(err error, file string) error {
	if file == "" {
		return err
	}
	return fmt.Errorf("%w; what was edited is in %s: mend it and give it with --file", err, file)
}

// isSameJSON says whether two JSON texts are the same but for white space.
func isSameJSON(a, b []byte) bool {
	var one, other bytes.Buffer
	return json.Compact(&one, a) == nil && json.Compact(&other, b) == nil && bytes.Equal(one.Bytes(), other.Bytes())
}

// retell has an edit find a letter by what is now in a record, where that differs from what was. A person who is known by something else than the e-mail of the event stays.
func retell(e *store.LetterEdit, person string, before, after []byte) {
	was, is := eventIn(before), eventIn(after)
	if was.Type() != is.Type() {
		e.EventType = is.Type()
	}
	if from, to := was.UserEmail(), is.UserEmail(); !strings.EqualFold(from, to) && (person == "" || strings.EqualFold(person, from)) {
		e.Person = strings.ToLower(to)
	}
}
