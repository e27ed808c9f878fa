package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"eventrouter/pkg/config"
	"eventrouter/pkg/jitsuconfig"
)

type importConfigCmd struct {
	File  string `arg:"" help:"Jitsu's configuration, YAML or JSON, such as eventnative.yaml."`
	Out   string `short:"o" placeholder:"FILE" help:"Where to write the router's configuration. Default: standard output."`
	Force bool   `help:"Write over a file that is there."`
}

// Help is shown by router import-config --help.
func (importConfigCmd) Help() string {
	return `Comments, order and ${env.NAME} placeholders stay. The report, on standard error, has for each key that could not be carried over the line, why,
and what to do; what means something else here; and whether router check passes the result. It never shows a secret.`
}

// errNothingCame is the end of a run without a result: the report says why.
var errNothingCame = errors.New("nothing usable came out")

// Run implements the command.
func (c *importConfigCmd) Run(ctx context.Context, s streams) error {
	data, err := config.ReadFile(c.File)
	if err != nil {
		return usageError{err}
	}
	if err := c.mayWrite(); err != nil {
		return usageError{err}
	}
	result, err := jitsuconfig.Convert(c.File, data)
	if err != nil {
		return usageError{err}
	}
	if err := jitsuconfig.WriteNotes(s.err, c.File, result.Notes); err != nil {
		return err
	}
	if result.YAML == nil {
		return usageError{fmt.Errorf("%s: %w", c.File, errNothingCame)}
	}
	fmt.Fprintln(s.err, "what differs whatever the file says, such as ip_policy=strict, is listed in docs/from-jitsu.md, under What differs on purpose")
	if c.Out == "" {
		_, err = s.out.Write(result.YAML)
	} else {
		err = c.write(result.YAML)
	}
	if err != nil {
		return err
	}
	return c.tell(ctx, s.err, result.YAML)
}

// mayWrite refuses to write over a file, and over the one that is read in any case.
func (c *importConfigCmd) mayWrite() error {
	if c.Out == "" {
		return nil
	}
	there, err := os.Stat(c.Out)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if from, err := os.Stat(c.File); err == nil && os.SameFile(from, there) {
		return fmt.Errorf("%s is the file that is read: name another one with --out", c.Out)
	}
	if !there.Mode().IsRegular() {
		return fmt.Errorf("%s is no file", c.Out)
	}
	if !c.Force {
		return fmt.Errorf("%s is there: name another file with --out, or write over it with --force", c.Out)
	}
	return nil
}

// write writes the result, which may hold secrets, for this user alone. What was there is replaced as a whole or not at all.
func (c *importConfigCmd) write(data []byte) (err error) {
	if !c.Force {
		f, err := os.OpenFile(c.Out, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		_, err = f.Write(data)
		return errors.Join(err, f.Close())
	}
	f, err := os.CreateTemp(filepath.Dir(c.Out), ".router-import-*") // with mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), c.Out)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}

// tell checks the result as router check does, without asking anybody for what stands elsewhere, and says what came of it.
func (c *importConfigCmd) tell(ctx context.Context, w io.Writer, data []byte) error {
	name := c.Out
	if name == "" {
		name = filepath.Join(filepath.Dir(c.File), "router.yaml") // where it will most likely stand: files that it names are looked for from there
	}
	left := func(context.Context, config.Address) (config.Version, error) {
		return config.Version{}, config.ErrLeftOut
	}
	none := func(config.Address, config.Server) (config.Version, error) {
		return config.Version{}, config.ErrLeftOut
	}
	l := loader{path: name, data: data, fresh: left, good: none, strict: true}
	loaded, err := l.load(ctx)
	if err == nil {
		err = checkCertificate(loaded.cfg)
	}
	var problems config.Problems
	switch {
	case errors.As(err, &problems):
		problems = slices.Compact(problems)
		fmt.Fprintf(w, "router check does not pass it yet, with %s in the new file:\n", count(len(problems), "problem"))
		for _, p := range problems {
			fmt.Fprintf(w, "  %s\n", p)
		}
		return nil
	case err != nil:
		return err
	case len(loaded.cfg.Elsewhere) > 0:
		fmt.Fprintln(w, "nothing is wrong with it as far as can be told here: what stands elsewhere was not looked at, router check does")
		return nil
	}
	fmt.Fprintf(w, "router check passes it: %s, %s, %s\n", count(len(loaded.cfg.APIKeys), "API key"), count(len(loaded.cfg.Destinations), "destination"),
		count(len(loaded.cfg.Warnings), "warning"))
	return nil
}
