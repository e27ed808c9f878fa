package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"eventrouter/pkg/config"
	"eventrouter/pkg/destinations"
)

const (
	// liveCheckTimeout bounds the check of one destination: a refusal by the rolling quota costs ten seconds.
	liveCheckTimeout = time.Minute
	// maxTestBody bounds the body of POST /api/v1/destinations/test.
	maxTestBody = 64 << 10
)

// checkLive asks the remote of each destination, staged ones too, and prints what was found. Its error says how many destinations are not well.
func checkLive(ctx context.Context, s streams, cfg *config.Config, p parts) error {
	bad := 0
	for _, d := range cfg.Destinations {
		findings, err := testDestination(ctx, cfg, d.Name, p)
		if err != nil {
			return err
		}
		fmt.Fprintf(s.out, "\n%s (%s)\n", d.Name, d.Type)
		if err := printFindings(s.out, findings); err != nil {
			return err
		}
		if firstError(findings) != nil {
			bad++
		}
	}
	if bad > 0 {
		return fmt.Errorf("the live check found errors in %d of %s", bad, count(len(cfg.Destinations), "destination"))
	}
	return nil
}

// printFindings writes a table, with what to do about a finding below it.
func printFindings(out io.Writer, findings []destinations.Finding) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, f := range findings {
		fmt.Fprintf(w, "  %s\t%s\t%s\n", f.Level, f.Check, line(f.Text))
		if f.Fix != "" {
			fmt.Fprintf(w, "  \t\tto do: %s\n", line(f.Fix))
		}
	}
	return w.Flush()
}

// line is text from outside on one line of a terminal.
func line(text string) string {
	return strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 }), " ")
}

func firstError(findings []destinations.Finding) *destinations.Finding {
	i := slices.IndexFunc(findings, func(f destinations.Finding) bool { return f.Level == destinations.FindingError })
	if i < 0 {
		return nil
	}
	return &findings[i]
}

// testDestination makes the destination called name and lets it test itself.
func testDestination(ctx context.Context, cfg *config.Config, name string, p parts) ([]destinations.Finding, error) {
	one := *cfg
	one.Destinations = nil
	for _, d := range cfg.Destinations {
		if d.Name == name {
			d.Staged = false // it is made all the same
			one.Destinations = append(one.Destinations, d)
		}
	}
	if len(one.Destinations) == 0 {
		var names []string
		for _, d := range cfg.Destinations {
			names = append(names, d.Name)
		}
		return nil, fmt.Errorf("no destination is called %s; there are: %s", name, strings.Join(names, ", "))
	}
	made, _, err := routes(&one, p)
	if err != nil {
		return nil, err
	}
	tester, ok := made[0].Destination.(destinations.Tester)
	if !ok {
		return []destinations.Finding{{
			Check: "live", Level: destinations.FindingUnknown, Text: "destinations of type " + made[0].Type + " can not be tested",
		}}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, liveCheckTimeout)
	defer cancel()
	return tester.Test(ctx), nil
}

// quiet are parts for destinations that only look: nothing is logged, counted or kept. The quota is that of shared.
func quiet(shared *destinations.Shared, transport http.RoundTripper) parts {
	return parts{logger: quietLogger(), metrics: discardMetrics(), shared: shared, transport: transport}
}

// destinationTest answers POST /api/v1/destinations/test, with {"destination":"name"} for one of the configuration, or a destination as
// Jitsu's UI posts it: {"type":"hubspot","config":{...}}. It is Jitsu's answer, {"status":"ok"} or {"message","error"} with 400, and the
// findings beside it.
type destinationTest struct {
	cfg   func() *config.Config // in force
	parts parts
}

// ServeHTTP tests one destination, and answers when that is done.
func (h *destinationTest) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	findings, err := h.test(w, r)
	if err != nil {
		writeJSON(w, http.StatusBadRequest, testAnswer{Message: err.Error()})
		return
	}
	if f := firstError(findings); f != nil {
		writeJSON(w, http.StatusBadRequest, testAnswer{Message: f.Check + ": " + f.Text, Error: &f.Fix, Findings: findings})
		return
	}
	writeJSON(w, http.StatusOK, testAnswer{Status: "ok", Findings: findings})
}

// testAnswer is the body of an answer.
type testAnswer struct {
	Status   string                 `json:"status,omitempty"`
	Message  string                 `json:"message,omitempty"`
	Error    *string                `json:"error,omitempty"` // what to do, with a message
	Findings []destinations.Finding `json:"findings,omitempty"`
}

func writeJSON(w http.ResponseWriter, status int, v testAnswer) {
	if v.Message != "" && v.Error == nil {
		v.Error = new(string) // Jitsu's envelope has it always
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // an error means that the client has gone
}

func (h *destinationTest) test(w http.ResponseWriter, r *http.Request) ([]destinations.Finding, error) {
	// Without an admin token this machine may ask, and with it any page that its browser shows.
	if err := http.NewCrossOriginProtection().Check(r); err != nil {
		return nil, err
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxTestBody))
	if err != nil {
		return nil, errors.New("the body can not be read, or is longer than 64 KiB")
	}
	name, cfg, err := requestedDestination(body)
	if err != nil {
		return nil, err
	}
	if cfg == nil {
		cfg = h.cfg()
	}
	// The request's context is fasthttp's own, which is used again for other requests while a call may still look at it; the check has a timeout.
	findings, err := testDestination(context.Background(), cfg, name, h.parts)
	if err != nil {
		return nil, errors.New(plainProblems(err))
	}
	return findings, nil
}

// requestedDestination reads a body: the name of a configured destination, or a configuration with the one to test.
func requestedDestination(body []byte) (name string, cfg *config.Config, err error) {
	var in map[string]any
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber() // a hub id stays as it is
	if err := dec.Decode(&in); err != nil || in == nil {
		return "", nil, errors.New(`the body must be a JSON object: {"destination":"name"}, or {"type":"hubspot","config":{...}}`)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return "", nil, errors.New("something stands behind the JSON object of the body")
	}
	if named, ok := in["destination"]; ok {
		name, isText := named.(string)
		if !isText || len(in) > 1 {
			return "", nil, errors.New(`"destination" is the name of a destination in the configuration and stands alone`)
		}
		return name, nil, nil
	}
	typ, ok := in["type"].(string)
	if !ok {
		return "", nil, errors.New(`"type" is required, such as hubspot, or "destination" with the name of one in the configuration`)
	}
	delete(in, "only_tokens") // says where events come from
	// JSON is YAML, so a destination is read as in a file, which must have a key. Variables are not read: they hold the secrets of this
	// process.
	text, err := json.Marshal(map[string]any{
		"api_keys": []any{map[string]any{"server_secret": "of nobody"}}, "destinations": map[string]any{"test": in},
	})
	if err != nil {
		return "", nil, err
	}
	if bytes.Contains(text, []byte("${env.")) {
		return "", nil, errors.New("${env.…} has no meaning here: write the value")
	}
	cfg, err = config.ParseWith("body", text, config.Options{
		Env:        func(string) (string, bool) { return "", false },
		ReadScript: func(string) ([]byte, error) { return nil, errNoFiles },
	})
	if err != nil {
		return "", nil, errors.New(plainProblems(err))
	}
	if _, ok := destinationTypes[typ]; !ok {
		return "", nil, fmt.Errorf("unknown type %.40q", typ)
	}
	return "test", cfg, nil
}

// errNoFiles keeps requests out of this machine's files.
var errNoFiles = errors.New("no files are read for a request: write the script into transform")

// plainProblems are problems without the places in a file that nobody sees.
func plainProblems(err error) string {
	var problems config.Problems
	if !errors.As(err, &problems) {
		return err.Error()
	}
	var all []string
	for _, p := range problems {
		all = append(all, strings.TrimPrefix(p.Path, "destinations.test.")+": "+p.Text)
	}
	return strings.Join(all, "; ")
}

func quietLogger() *slog.Logger { return slog.New(slog.DiscardHandler) }
