package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"

	"eventrouter/pkg/export"
)

type lettersExportCmd struct {
	lettersFlags
	filterFlags
	Output     string `short:"o" default:"-" placeholder:"FILE" help:"The file to write; - is standard output."`
	Force      bool   `help:"Replace the file if it is there."`
	Everything bool   `help:"All dead letters that there are, where nothing is filtered by."`
	Drop       bool   `help:"Then drop what was written, once it is safe on the disk. Not with standard output."`
}

// Help is shown by router deadletters export --help.
func (lettersExportCmd) Help() string {
	return `Writes one JSON object per line: the dead letter whole, with a checksum. Nothing is hidden in it: keep it as you keep the data of persons. It is noted where
it went, and router forget lists it: what is in a file it can not reach. router deadletters import puts it back.

  router deadletters export --destination crm --until 30d --output crm.ndjson --drop`
}

// exported is a dead letter in a file.
type exported struct {
	id       int64
	checksum string
}

// Run implements the command.
func (c *lettersExportCmd) Run(ctx context.Context, s streams) error {
	toFile := c.Output != "-"
	if c.Drop && !toFile {
		return usageError{errors.New("--drop needs --output FILE: what is not known to be safe is not dropped")}
	}
	f, err := c.some(c.Everything, "exported")
	if err != nil {
		return err
	}
	if _, err := os.Lstat(c.Output); toFile && err == nil && !c.Force {
		return usageError{fmt.Errorf("%s is there already: choose another name, or replace it with --force", c.Output)}
	}
	l, err := c.find(ctx, true) // it notes the export
	if err != nil {
		return err
	}
	defer l.close()
	if !toFile {
		got, err := c.write(ctx, s, l, f, s.out)
		return errors.Join(err, got.err())
	}
	file, err := newWholeFile(c.Output)
	if err != nil {
		return err
	}
	defer file.discard()
	got, err := c.write(ctx, s, l, f, file)
	if err != nil {
		return err
	}
	if err := file.keep(c.Force); err != nil {
		return err
	}
	fmt.Fprintf(s.err, "%s in %s\n", count(len(got.letters), "dead letter"), c.Output)
	if c.Drop {
		if err := c.drop(ctx, s, l, got.letters); err != nil {
			return err
		}
	}
	return got.err()
}

// written is what is in a file.
type written struct {
	letters []exported
	damaged []int64
}

func (w written) err() error {
	if len(w.damaged) == 0 {
		return nil
	}
	return fmt.Errorf("%s damaged on the disk, and written without its event: %v", count(len(w.damaged), "dead letter"), w.damaged[:min(len(w.damaged), 20)])
}

// write writes what a filter finds.
func (c *lettersExportCmd) write(ctx context.Context, s streams, l *deadLetters, f letterFilter, to io.Writer) (all written, err error) {
	sum, err := l.summary(ctx, f, false)
	if err != nil {
		return all, err
	}
	shown := newCountProgress(s.err, "export", sum.Letters)
	defer shown.end()
	out := bufio.NewWriterSize(to, 1<<20)
	for _, part := range f.byIDs(maxAddressIDs) {
		if err := c.fetch(ctx, l, part, func(line []byte) error {
			l, sum, err := export.ReadLine(line)
			switch {
			case errors.Is(err, export.ErrDamaged):
				all.damaged = append(all.damaged, l.ID)
			case err != nil:
				return fmt.Errorf("what the router sends is refused: %w", err)
			default:
				all.letters = append(all.letters, exported{l.ID, sum})
			}
			shown.at(int64(len(all.letters)))
			_, err = out.Write(line)
			return err
		}); err != nil {
			return all, err
		}
	}
	return all, out.Flush()
}

// fetch calls see with each line of an export.
func (c *lettersExportCmd) fetch(ctx context.Context, l *deadLetters, f letterFilter, see func(line []byte) error) error {
	v := f.values()
	if c.Output != "-" {
		v.Set("file", c.Output)
		if abs, err := filepath.Abs(c.Output); err == nil {
			v.Set("file", abs)
		}
	}
	res, err := l.flags.open(ctx, l.cfg, routerCall{path: lettersPath + "/export?" + v.Encode(), via: l.via})
	if err != nil {
		return err
	}
	defer res.Body.Close()
	err = eachLine(res.Body, func(_ int, line []byte) error { return see(line) })
	var at *url.Error
	if errors.As(err, &at) {
		err = at.Err // persons stand in the address
	}
	return err
}

// drop drops what is in the file, and nothing that has changed since.
func (c *lettersExportCmd) drop(ctx context.Context, s streams, l *deadLetters, all []exported) error {
	shown := newCountProgress(s.err, "drop", int64(len(all)))
	defer shown.end()
	dropped := int64(0)
	for from := 0; from < len(all); from += maxLetterIDs {
		part := map[int64]string{}
		for _, e := range all[from:min(len(all), from+maxLetterIDs)] {
			part[e.id] = e.checksum
		}
		var got dropAnswer
		if err := l.post(ctx, "/drop", dropChange{Exported: part}, &got); err != nil {
			return fmt.Errorf("%w (%d are dropped; all are in the file)", err, dropped)
		}
		dropped += got.Dropped
		shown.at(dropped)
	}
	shown.end()
	fmt.Fprintf(s.err, "%s dropped\n", count(int(dropped), "dead letter"))
	if left := int64(len(all)) - dropped; left > 0 {
		fmt.Fprintf(s.err, "%d stay: they were changed or replayed meanwhile\n", left)
	}
	return nil
}

// wholeFile is a file that has its name only when all of it is on the disk.
type wholeFile struct {
	*os.File
	name string
}

func newWholeFile(name string) (*wholeFile, error) {
	f, err := os.CreateTemp(filepath.Dir(name), filepath.Base(name)+".*.part") // 0600
	if err != nil {
		return nil, err
	}
	return &wholeFile{f, name}, nil
}

// keep gives the file its name.
func (f *wholeFile) keep(replace bool) error {
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	put := os.Link // fails if there is one
	if replace {
		put = os.Rename
	}
	if err := put(f.File.Name(), f.name); errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s is there already, made meanwhile", f.name)
	} else if err != nil {
		return err
	}
	f.discard()
	dir, err := os.Open(filepath.Dir(f.name))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// discard removes what has no name yet.
func (f *wholeFile) discard() {
	_ = f.Close()
	_ = os.Remove(f.File.Name())
}
