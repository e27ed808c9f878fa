package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/tidwall/gjson"
	"github.com/tidwall/sjson"
	"gopkg.in/yaml.v3"

	"eventrouter/pkg/config"
	"eventrouter/pkg/destinations"
	"eventrouter/pkg/dryrun"
	"eventrouter/pkg/event"
	"eventrouter/pkg/filters"
	"eventrouter/pkg/ingest"
	"eventrouter/pkg/testcase"
)

// madeUpHub is the number of HubSpot's account where a case does not say it.
const madeUpHub = "20546336"

// caseRig is a configuration set up for one case: nothing of it is shared with another, and nothing depends on the machine.
type caseRig struct {
	c       *testcase.Case
	cfg     *config.Config
	sim     *dryrun.Simulation
	secrets redactor
	now     time.Time // of the event in hand
	madeUp  map[string]bool
	used    map[string]bool // sections of the case that were read
	dir     string          // what names of files in the configuration are relative to
	texts   []*caseText
	front   offline
}

// newCaseRig reads the configuration and makes the destinations. It returns the rig beside an error too.
func newCaseRig(ctx context.Context, cmd *testCmd, c *testcase.Case) (*caseRig, error) {
	r := &caseRig{c: c, madeUp: map[string]bool{}, used: map[string]bool{}}
	if err := r.load(ctx, cmd); err != nil {
		return r, err
	}
	schemas := cmd.Schema
	if schemas == "" && c.Config == nil {
		schemas = schemaDir(cmd.Config)
	}
	targets, err := r.targets(schemas)
	if err != nil {
		return r, err
	}
	if r.sim, err = dryrun.New(dryrun.Options{
		Targets: targets, Enricher: newEnricher(r.cfg, nil), Now: func() time.Time { return r.now },
	}); err != nil {
		return r, fmt.Errorf("%s: %w", c.Path, err)
	}
	return r, nil
}

// load reads the configuration: the case's own, or the file of the command line.
func (r *caseRig) load(ctx context.Context, cmd *testCmd) error {
	l := loader{
		path: cmd.Config, strict: true, withoutGeo: true,
		// No network, and nothing of a router that runs on this machine.
		fresh: func(ctx context.Context, a config.Address) (config.Version, error) {
			if !a.IsFile() {
				return config.Version{}, config.ErrLeftOut
			}
			return fetched(config.NewElsewhere(nil))(ctx, a)
		},
		good: func(config.Address, config.Server) (config.Version, error) {
			return config.Version{}, config.ErrLeftOut
		},
		options: config.Options{
			Env: func(name string) (string, bool) {
				value, ok := r.c.Env[name]
				if !ok {
					value, ok = cmd.Env[name]
				}
				return value, ok
			},
			Unset: func(names []string) (string, bool) {
				r.madeUp[names[0]] = true
				return madeUpValue(names[0]), true
			},
			ReadScript: r.script,
		},
	}
	if own := r.c.Config; own != nil {
		l.path, l.data, l.options.Base = r.c.Path, own.Text, baseOf(r.c)
	}
	r.dir = filepath.Dir(l.path)
	loaded, err := l.load(ctx)
	if err != nil {
		return r.located(withoutFile(err))
	}
	r.cfg, r.secrets = loaded.cfg, newRedactor(loaded.cfg)
	var problems config.Problems
	for name, s := range r.c.Files {
		if !r.used[name] {
			problems = append(problems, r.problem(s.Line-1, "nothing reads section %s: it is none of a case's own, and the configuration names no such file", name))
		}
	}
	if len(r.cfg.Destinations) == 0 {
		problems = append(problems, r.problem(0, "the configuration has no destination here: what stands at a URL is not read"))
	}
	return problems.Sorted().Err()
}

func (r *caseRig) problem(line int, format string, args ...any) config.Problem {
	return config.Problem{Pos: config.Pos{File: r.c.Path, Line: line}, Text: fmt.Sprintf(format, args...)}
}

// madeUpValue is what stands for a variable that is not set, the same wherever the case runs. So many digits do for
// tokens, secrets and numbers of accounts.
func madeUpValue(name string) string {
	if strings.HasSuffix(strings.ToLower(name), "url") {
		return "https://made-up.invalid/" + strings.ToLower(name)
	}
	h := fnv.New64a()
	h.Write([]byte(name))
	return fmt.Sprintf("9%017d", h.Sum64()%1e17)
}

// script reads a transform file out of the case; what the case does not have comes from the disk.
func (r *caseRig) script(path string) ([]byte, error) {
	if s := r.file(path); s != nil {
		r.used[s.Name] = true
		return s.Text, nil
	}
	return nil, fs.ErrNotExist
}

// file is the section that stands for a file beside the configuration.
func (r *caseRig) file(path string) *testcase.Section {
	name, err := filepath.Rel(r.dir, path)
	if err != nil {
		return nil
	}
	return r.c.Files[filepath.ToSlash(name)]
}

// located is an error of the configuration with the places of what stands in the case.
func (r *caseRig) located(err error) error {
	var problems config.Problems
	if !errors.As(err, &problems) {
		return err
	}
	for i := range problems {
		pos := &problems[i].Pos
		s := r.c.Config
		if pos.File != r.c.Path || s == nil {
			s = r.file(pos.File)
		}
		if s != nil {
			pos.File, pos.Line = r.c.Path, max(pos.Line, 1)+s.Line-1
		}
	}
	return problems.Sorted()
}

// baseOf is what a case need not say: API keys, and account and token of HubSpot destinations.
func baseOf(c *testcase.Case) []byte {
	var file struct {
		Destinations map[string]struct {
			Type   string
			Config map[string]any
		}
	}
	if yaml.Unmarshal(c.Config.Text, &file) != nil { // what is wrong with it is found later
		return nil
	}
	keys := map[string]bool{}
	var list []map[string]string
	for i := range c.Events {
		if id := cmp.Or(c.Events[i].APIKey, "test"); !keys[id] {
			keys[id] = true
			list = append(list, map[string]string{"id": id, "client_secret": "made-up-client-secret." + id, "server_secret": "made-up-server-secret." + id})
		}
	}
	all := map[string]any{}
	for name, d := range file.Destinations {
		if cmp.Or(d.Type, name) != "hubspot" {
			continue
		}
		section := "hubspot"
		if d.Config != nil {
			section = "config"
		}
		all[name] = map[string]any{section: map[string]string{"access_token": "made-up-access-token", "hub_id": madeUpHub}}
	}
	base, err := yaml.Marshal(map[string]any{"api_keys": list, "destinations": all})
	if err != nil {
		return nil
	}
	return base
}

// targets are the destinations that the case is about.
func (r *caseRig) targets(schemas string) ([]dryrun.Target, error) {
	var problems config.Problems
	for _, name := range r.c.Destinations {
		if !slices.ContainsFunc(r.cfg.Destinations, func(d config.Destination) bool { return d.Name == name }) {
			problems = append(problems, r.problem(0, "the configuration has no destination %s, which section destinations names", name))
		}
	}
	for name, s := range r.c.Schemas {
		if !slices.ContainsFunc(r.cfg.Destinations, func(d config.Destination) bool { return d.Name == name }) {
			problems = append(problems, r.problem(s.Line-1, "the configuration has no destination %s", name))
		}
	}
	p := quiet(&destinations.Shared{}, noNetwork{})
	p.cache, p.enricher, p.limit = noCache{}, newEnricher(r.cfg, nil), filters.PatientLimit
	p.events, _, _ = appEvents(r.cfg.Apps)
	var targets []dryrun.Target
	for _, d := range r.cfg.Destinations {
		if r.c.Destinations != nil && !slices.Contains(r.c.Destinations, d.Name) {
			continue
		}
		t, err := p.dryRunTarget(r.cfg, d)
		if err != nil { // found by load before
			return nil, r.located(err)
		}
		if t.Schema, err = r.schema(d, t.Route.Destination, schemas); err != nil {
			problems = append(problems, r.problem(0, "schema of destination %s: %v", d.Name, err))
			continue
		}
		targets = append(targets, t)
		r.texts = append(r.texts, &caseText{destination: d.Name, typ: d.Type})
	}
	return targets, problems.Sorted().Err()
}

// schema is what is known of a destination's account: from the case, or from the folder; nil: nothing.
func (r *caseRig) schema(d config.Destination, made destinations.Destination, dir string) ([]byte, error) {
	var schema []byte
	if s := r.c.Schemas[d.Name]; s != nil {
		schema = s.Text
	} else if dir != "" {
		data, err := os.ReadFile(schemaFile(dir, d.Name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		schema = data
	}
	if schema == nil {
		return nil, nil
	}
	if !gjson.ValidBytes(schema) {
		return nil, errors.New("is not valid JSON; router schema pull writes it")
	}
	// An account that is made up stands for any.
	if hub := made.Hub(""); r.isMadeUp(hub) && gjson.GetBytes(schema, "hub_id").Exists() {
		return sjson.SetBytes(schema, "hub_id", hub)
	}
	return schema, nil
}

func (r *caseRig) isMadeUp(value string) bool {
	for name := range r.madeUp {
		if madeUpValue(name) == value {
			return true
		}
	}
	return r.c.Config != nil && value == madeUpHub
}

// play plays the events and returns what each destination makes of them.
func (r *caseRig) play(ctx context.Context) ([]testcase.Expected, error) {
	seen := map[[2]string]bool{}
	for i := range r.c.Events {
		ev, err := r.event(i)
		if err != nil {
			return nil, err
		}
		r.now = ev.Received
		id := [2]string{ev.APIKey, ev.ID}
		if !ev.Server {
			id[0] = "browser " + id[0] // as the router counts
		}
		heading := headingOf(i, ev)
		if seen[id] {
			for _, text := range r.texts {
				text.duplicate(heading)
			}
			continue
		}
		seen[id] = true
		report, err := r.sim.Play(ctx, ev)
		if err != nil {
			return nil, err
		}
		for _, text := range r.texts {
			text.add(heading, report)
		}
	}
	var got []testcase.Expected
	for _, text := range r.texts {
		got = append(got, testcase.Expected{Destination: text.destination, Text: r.secrets.text(text.out.String())})
	}
	return got, nil
}

// printed is what the scripts of a destination have printed.
func (r *caseRig) printed(destination string) string {
	for _, text := range r.texts {
		if text.destination == destination && text.logs.Len() > 0 {
			return "printed by its scripts:\n" + text.logs.String()
		}
	}
	return ""
}

// event is an event of the case as ingest makes it.
func (r *caseRig) event(i int) (*event.Event, error) {
	from := &r.c.Events[i]
	p := ingest.Posted{APIKey: from.APIKey, Browser: !from.Server, Received: from.At, UserAgent: from.UserAgent, Body: from.JSON}
	if from.IP != "" {
		p.Addr = netip.MustParseAddr(from.IP) // found to be one when the case was read
	}
	switch {
	case from.App != "":
		p.Route, p.Account = "/api/v1/apps/"+from.App+"/events", from.Account
	case from.Protocol == "jitsu" && from.Server:
		p.Route = "/api/s/s2s/event"
	case from.Protocol == "jitsu":
		p.Route = "/api/s/event"
	case from.Protocol != "":
		p.Route, p.Body = "/v1/batch", slices.Concat([]byte(`{"batch":[`), from.JSON, []byte("]}"))
	case !from.Server:
		p.Route = "/api/v1/event"
	}
	tried, err := r.front.read(r.cfg, p)
	switch {
	case err != nil:
		return nil, config.Problems{r.problem(from.Line, "is refused: %v", err)}
	case len(tried.LeftOut) > 0:
		return nil, config.Problems{r.problem(from.Line, "is refused: %s", tried.LeftOut[0])}
	case len(tried.Events) != 1:
		return nil, config.Problems{r.problem(from.Line, "is %d events; write each on a line of its own", len(tried.Events))}
	}
	ev := tried.Events[0]
	if id, err := uuid.Parse(ev.ID); err == nil && id.Version() == 4 && !bytes.Contains(ev.JSON, []byte(ev.ID)) { // drawn by ingest
		ev.ID = fmt.Sprintf("event-%d", i+1)
	}
	return ev, nil
}

// headingOf is the line that begins what is said of an event.
func headingOf(i int, ev *event.Event) string {
	heading := fmt.Sprintf("event %d: %s", i+1, cmp.Or(line(ev.Type()), "without a type"))
	if email, ok := ev.OwnEmail(); ok {
		heading += " of " + line(email)
	}
	return heading
}
