package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"eventrouter/pkg/config"
	"eventrouter/pkg/destinations"
)

type schemaCmd struct {
	Pull schemaPullCmd `cmd:"" help:"Read the properties and event definitions of the accounts and store them in files, one for each destination."`
}

type schemaPullCmd struct {
	configFlag
	Destination string `short:"d" placeholder:"NAME" help:"Only this destination. Default: all."`
	Out         string `short:"o" placeholder:"DIR" help:"Folder for the files. Default: schemas beside the configuration."`
}

// Help is shown by router schema pull --help.
func (schemaPullCmd) Help() string {
	return `Reads the accounts, writes nothing there, and takes a few calls of each. The files hold names, types and options, no contacts and no secrets: keep them with
the configuration, and router try needs no account.`
}

// Run implements the command.
func (c *schemaPullCmd) Run(ctx context.Context, s streams) error {
	cfg, err := load(c.Config)
	if err != nil {
		return err
	}
	dir := c.Out
	if dir == "" {
		dir = schemaDir(c.Config)
	}
	pulled, failed, named := 0, 0, false
	for _, d := range cfg.Destinations {
		if c.Destination != "" && d.Name != c.Destination {
			continue
		}
		named = true
		text, err := pullSchema(ctx, cfg, d, dir)
		switch {
		case err != nil:
			failed++
			fmt.Fprintf(s.err, "%s: %s\n", d.Name, line(newRedactor(cfg).text(err.Error())))
		case text != "":
			pulled++
			fmt.Fprintf(s.out, "%s: %s\n", d.Name, text)
		default:
			fmt.Fprintf(s.out, "%s: destinations of type %s have no schema\n", d.Name, d.Type)
		}
	}
	switch {
	case !named && c.Destination != "":
		return usageError{noSuchDestination(cfg, c.Destination)}
	case failed > 0:
		return fmt.Errorf("%s could not be read, %d read", count(failed, "schema"), pulled)
	}
	return nil
}

// pullSchema stores the schema of one destination, and says what became of the file; "": it has none.
func pullSchema(ctx context.Context, cfg *config.Config, d config.Destination, dir string) (string, error) {
	p := quiet(&destinations.Shared{}, nil)
	p.cache = noCache{}
	t, err := p.dryRunTarget(cfg, d)
	if err != nil {
		return "", err
	}
	simulated, ok := t.Route.Destination.(destinations.Simulated)
	if !ok {
		return "", nil
	}
	ctx, cancel := context.WithTimeout(ctx, liveCheckTimeout)
	defer cancel()
	data, err := simulated.Schema(ctx)
	var block *destinations.BlockError
	switch {
	case errors.As(err, &block):
		return "", block.Err
	case err != nil || data == nil:
		return "", err
	}
	if data, err = newRedactor(cfg).json(data); err != nil {
		return "", err
	}
	var b bytes.Buffer
	if err := json.Indent(&b, data, "", "  "); err != nil {
		return "", err
	}
	b.WriteByte('\n')
	return storeSchema(schemaFile(dir, d.Name), b.Bytes())
}

// storeSchema replaces a file as a whole, if it differs.
func storeSchema(path string, data []byte) (string, error) {
	before, err := os.ReadFile(path)
	switch {
	case err == nil && bytes.Equal(before, data):
		return path + " is up to date", nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return "", err
	}
	what := "replaced"
	if err != nil {
		what = "written"
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".schema-*")
	if err != nil {
		return "", err
	}
	defer os.Remove(f.Name()) // nothing, once it has its name
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(0o644), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return "", fmt.Errorf("write %s: %w", path, err)
	}
	return path + " is " + what, nil
}
