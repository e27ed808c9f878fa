package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"

	"eventrouter/pkg/export"
)

type lettersImportCmd struct {
	lettersFlags
	Files         []string `arg:"" name:"FILE" help:"Files of router deadletters export; - is standard input."`
	SkipMalformed bool     `name:"skip-malformed" help:"Pass over lines that are damaged, and report them; else nothing of a file with one is imported."`
	Replay        bool     `help:"Mark them to be sent again at once."`
	AsIs          bool     `name:"as-is" help:"With --replay: as they were to be delivered, not from the original event."`
	Overwrite     bool     `help:"With --replay: properties too that a later event of the person wrote since."`
	All           bool     `help:"With --replay: all outputs that the event gives now."`
}

// Help is shown by router deadletters import --help.
func (lettersImportCmd) Help() string {
	return `Puts dead letters back, under new numbers. One that is there already, with the same output, time and reason, is left out: to import a file again adds
nothing.`
}

// Run implements the command.
func (c *lettersImportCmd) Run(ctx context.Context, s streams) error {
	if !c.Replay && (c.AsIs || c.Overwrite || c.All) {
		return usageError{errors.New("--as-is, --overwrite and --all say how to --replay")}
	}
	l, err := c.find(ctx, true)
	if err != nil {
		return err
	}
	defer l.close()
	var all importAnswer
	for _, file := range c.Files {
		got, err := c.file(ctx, s, l, file)
		all.Added += got.Added
		all.Present += got.Present
		all.Bad += got.Bad
		if err != nil {
			fmt.Fprintf(s.out, "%s imported, %d were there\n", count(int(all.Added), "dead letter"), all.Present)
			return fmt.Errorf("%s: %w", file, err)
		}
	}
	fmt.Fprintf(s.out, "%s imported, %d were there\n", count(int(all.Added), "dead letter"), all.Present)
	if c.Replay && all.Added > 0 && !l.running() {
		fmt.Fprintln(s.out, "no router runs: they are replayed at its next start")
	}
	if all.Bad > 0 {
		return fmt.Errorf("%s refused", count(all.Bad, "line"))
	}
	return nil
}

// file imports one file. It is read twice: nothing of one with a damaged line is imported.
func (c *lettersImportCmd) file(ctx context.Context, s streams, l *deadLetters, name string) (all importAnswer, err error) {
	if name == "-" {
		return c.lines(ctx, s, l, os.Stdin, 0)
	}
	f, err := os.Open(name)
	if err != nil {
		return all, err
	}
	defer f.Close()
	lines := int64(0)
	err = eachLine(f, func(n int, line []byte) error {
		lines++
		if c.SkipMalformed {
			return ctx.Err()
		}
		if _, _, err := export.ReadLine(line); err != nil {
			return fmt.Errorf("line %d: %w. Nothing of the file is imported; --skip-malformed passes over such lines", n, err)
		}
		return ctx.Err()
	})
	if err != nil {
		return all, err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return all, err
	}
	return c.lines(ctx, s, l, f, lines)
}

// importPiece is about how many bytes one request has.
const importPiece = 1 << 20

// lines imports what r holds.
func (c *lettersImportCmd) lines(ctx context.Context, s streams, l *deadLetters, r io.Reader, total int64) (all importAnswer, err error) {
	shown := newCountProgress(s.err, "import", total)
	defer shown.end()
	var piece bytes.Buffer
	read := int64(0)
	send := func() error {
		if piece.Len() == 0 {
			return nil
		}
		var got importAnswer
		err := l.post(ctx, "/import?"+c.values().Encode(), bytes.NewReader(piece.Bytes()), &got)
		all.Added += got.Added
		all.Present += got.Present
		piece.Reset()
		shown.at(read)
		return err
	}
	err = eachLine(r, func(n int, line []byte) error {
		if _, _, err := export.ReadLine(line); err != nil {
			if !c.SkipMalformed {
				return errors.Join(send(), fmt.Errorf("line %d: %w. What stands before it is imported", n, err))
			}
			if all.Bad++; all.Bad <= maxBadLines {
				fmt.Fprintf(s.err, "line %d: %s\n", n, cell(err.Error()))
			}
			return nil
		}
		read++
		piece.Write(line)
		if !bytes.HasSuffix(line, []byte{'\n'}) {
			piece.WriteByte('\n')
		}
		if piece.Len() < importPiece {
			return nil
		}
		return send()
	})
	if err == nil {
		err = send()
	}
	return all, err
}

func (c *lettersImportCmd) values() url.Values {
	v := url.Values{}
	if c.Replay {
		words := []string{"original"}
		for word, is := range map[string]bool{"as_is": c.AsIs, "overwrite": c.Overwrite, "all": c.All} {
			if is {
				words = append(words, word)
			}
		}
		v.Set("replay", strings.Join(words, ","))
	}
	return v
}
