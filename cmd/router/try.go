package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"eventrouter/pkg/config"
	"eventrouter/pkg/destinations"
	"eventrouter/pkg/dryrun"
	"eventrouter/pkg/enrich"
	"eventrouter/pkg/ingest"
	"eventrouter/pkg/redact"
)

type tryCmd struct {
	configFlag
	Event       string `short:"e" default:"-" placeholder:"FILE" help:"File of events: one, an array, or one after the other; - is standard input."`
	Destination string `short:"d" placeholder:"NAME" help:"Only this destination. Default: all that the API key feeds, staged ones too."`
	APIKey      string `name:"api-key" placeholder:"ID" help:"Post them with the API key of this id. Default: the first of the configuration."`
	Browser     bool   `help:"Post them as a page in a browser does, without a server's trust."`
	IP          string `name:"ip" placeholder:"ADDRESS" help:"Post them from this address. Default: 127.0.0.1."`
	UserAgent   string `placeholder:"TEXT" help:"Post them with this User-Agent."`
	Route       string `placeholder:"PATH" help:"Post them to this path, such as /v1/batch for Segment's messages. Default: /api/v1/s2s/event."`
	Account     string `placeholder:"ID" help:"Of events of an app, posted to /api/v1/apps/NAME/events: the account whose end user posts them."`
	Together    bool   `help:"Play them as if they waited together, as those of one request mostly do: writes of one contact are merged. Default: one after the other."`
	Schema      string `placeholder:"DIR" help:"Folder of account schemas, from router schema pull. Default: schemas beside the configuration."`
	JSON        bool   `help:"One JSON object."`
}

// Help is shown by router try --help.
func (tryCmd) Help() string {
	return `Plays events through the configuration and shows, for each destination, what would become of them and why: the transformed event, what would be written,
changed and left out, and the exact requests. Nothing is sent, stored or needed but the files. Exit status 1: an event would become a dead letter.`
}

// maxTryBytes bounds the file: it is for a person who looks at what comes out.
const maxTryBytes = 16 << 20

// Run implements the command.
func (c *tryCmd) Run(ctx context.Context, s streams) error {
	cfg, err := load(c.Config)
	if err != nil {
		return err
	}
	tried, err := c.read(cfg)
	if err != nil {
		return err
	}
	o, err := c.options(cfg, tried.APIKey)
	if err != nil {
		return err
	}
	report, err := playAll(ctx, o, tried, c.Together)
	if err != nil {
		return err
	}
	data, err := newRedactor(cfg).json(report)
	if err != nil {
		return err
	}
	if c.JSON {
		_, err = fmt.Fprintf(s.out, "%s\n", data)
	} else {
		clean := &dryrun.Report{}
		if err := json.Unmarshal(data, clean); err != nil {
			return err
		}
		err = writeDryRun(s.out, clean)
	}
	if n := report.DeadLetters(); err == nil && n > 0 {
		return fmt.Errorf("%s would become %s", count(n, "output"), map[bool]string{true: "a dead letter", false: "dead letters"}[n == 1])
	}
	return err
}

// read makes events of the file, each value in it as a request of its own.
func (c *tryCmd) read(cfg *config.Config) (ingest.Tried, error) {
	data, err := readEvents(c.Event)
	if err != nil {
		return ingest.Tried{}, err
	}
	bodies, err := jsonValues(c.Event, data)
	if err != nil {
		return ingest.Tried{}, err
	}
	from := ingest.Posted{Route: c.Route, APIKey: c.APIKey, Account: c.Account, Browser: c.Browser, UserAgent: c.UserAgent}
	if c.IP != "" {
		if from.Addr, err = netip.ParseAddr(c.IP); err != nil {
			return ingest.Tried{}, usageError{fmt.Errorf("--ip: %w", err)}
		}
	}
	var all ingest.Tried
	var front offline
	for _, b := range bodies {
		from.Received, from.Body = time.Now().UTC(), b.json
		tried, err := front.read(cfg, from)
		if err != nil {
			return all, fmt.Errorf("%s:%d: %w", c.Event, b.line, err)
		}
		all.APIKey = tried.APIKey
		all.Events = append(all.Events, tried.Events...)
		all.LeftOut = append(all.LeftOut, tried.LeftOut...)
	}
	return all, nil
}

func readEvents(path string) ([]byte, error) {
	in := io.Reader(os.Stdin)
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, usageError{fmt.Errorf("--event: %w", err)}
		}
		defer f.Close()
		in = f
	}
	data, err := io.ReadAll(io.LimitReader(in, maxTryBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if len(data) > maxTryBytes {
		return nil, fmt.Errorf("%s is longer than %d bytes: try a few of its events", path, maxTryBytes)
	}
	return data, nil
}

// posted is one value of a file.
type posted struct {
	json []byte
	line int // where it begins
}

// jsonValues splits a file into its JSON values.
func jsonValues(path string, data []byte) (all []posted, err error) {
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	dec := json.NewDecoder(bytes.NewReader(data))
	for {
		from := dec.InputOffset()
		var raw json.RawMessage
		err := dec.Decode(&raw)
		if errors.Is(err, io.EOF) {
			break
		}
		line := 1 + bytes.Count(data[:from], []byte("\n"))
		rest := data[from:]
		line += bytes.Count(rest[:len(rest)-len(bytes.TrimLeft(rest, " \t\r\n"))], []byte("\n"))
		if err != nil {
			if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
				line = 1 + bytes.Count(data[:min(int64(len(data)), max(0, syntax.Offset))], []byte("\n"))
			}
			return nil, fmt.Errorf("%s:%d: no JSON: %w", path, line, err)
		}
		all = append(all, posted{raw, line})
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s holds no event", path)
	}
	return all, nil
}

// options are what the events are played through.
func (c *tryCmd) options(cfg *config.Config, apiKey string) (dryrun.Options, error) {
	chosen, err := chosenDestinations(cfg, c.Destination, apiKey)
	if err != nil {
		return dryrun.Options{}, usageError{noSuchDestination(cfg, c.Destination)}
	}
	if len(chosen) == 0 {
		return dryrun.Options{}, fmt.Errorf("the API key %s feeds no destination: choose another with --api-key, or a destination with --destination", apiKey)
	}
	geo, err := openGeo(cfg)
	if err != nil {
		return dryrun.Options{}, err
	}
	enricher := newEnricher(cfg, geo)
	dir := c.Schema
	if dir == "" {
		dir = schemaDir(c.Config)
	}
	o := dryrun.Options{Enricher: enricher, Redact: redact.New(cfg.Server.Redact)}
	events, _, _ := appEvents(cfg.Apps)
	for _, d := range chosen {
		p := quiet(&destinations.Shared{}, noNetwork{})
		p.cache, p.enricher, p.events = noCache{}, enricher, events
		t, err := p.dryRunTarget(cfg, d)
		if err != nil {
			return o, err
		}
		if err := readSchema(dir, &t); err != nil {
			return o, err
		}
		o.Targets = append(o.Targets, t)
	}
	return o, nil
}

// openGeo opens the databases of the configuration; nil: it names none.
func openGeo(cfg *config.Config) (*enrich.Geo, error) {
	if cfg.Geo.MaxMindPath == "" {
		return nil, nil
	}
	geo, err := enrich.OpenGeo(cfg.Geo.MaxMindPath, quietLogger())
	if err != nil {
		return nil, usageError{fmt.Errorf("geo.maxmind_path: %w", err)}
	}
	return geo, nil
}

func noSuchDestination(cfg *config.Config, name string) error {
	var names []string
	for _, d := range cfg.Destinations {
		names = append(names, d.Name)
	}
	return fmt.Errorf("no destination is called %s; there are: %s", name, strings.Join(names, ", "))
}

// schemaDir is where the schemas of a configuration are by default.
func schemaDir(configFile string) string { return filepath.Join(filepath.Dir(configFile), "schemas") }

func schemaFile(dir, destination string) string {
	return filepath.Join(dir, url.PathEscape(destination)+".json")
}

// readSchema gives a target the schema in dir, if there is one for it.
func readSchema(dir string, t *dryrun.Target) error {
	if _, ok := t.Route.Destination.(destinations.Simulated); !ok {
		return nil
	}
	file := schemaFile(dir, t.Route.Name)
	data, err := os.ReadFile(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if hasSchema(t) {
			t.From = "that of a new account"
			t.Notes = append(slices.Clone(t.Notes), "the account's own properties are not known: router schema pull reads them")
		}
		return nil
	case err != nil:
		return err
	}
	t.Schema, t.From = data, file
	return nil
}

// hasSchema says whether the remote of a target has a schema to know: only then it asks for one, of a network that is not there.
func hasSchema(t *dryrun.Target) bool {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	data, err := t.Route.Destination.(destinations.Simulated).Schema(ctx)
	return err != nil || data != nil
}

// noNetwork is the transport of destinations that may not call anybody.
type noNetwork struct{}

// RoundTrip implements [http.RoundTripper].
func (noNetwork) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		r.Body.Close()
	}
	return nil, errors.New("a dry run reaches no network")
}
