package main

import (
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tidwall/gjson"

	"eventrouter/pkg/destinations/hubspot/sandbox"
	"eventrouter/pkg/store"
)

// lettersRig is a router in this process at the address that its configuration names, in front of a sandbox.
type lettersRig struct {
	t    *testing.T
	box  *sandbox.Sandbox
	hub  string
	port string
	dir  string // of the data
	file string // the configuration
	run  *running
}

// newLettersRig writes a configuration; more are further lines of the destination crm, server further members of server.
func newLettersRig(t *testing.T, server, more string) *lettersRig {
	t.Helper()
	g := &lettersRig{t: t, dir: t.TempDir(), port: freePort(t), file: filepath.Join(t.TempDir(), "router.yaml")}
	g.box = sandbox.New(sandbox.Options{HubID: demoHub, Token: plantedToken, Properties: demoProperties()})
	remote := httptest.NewServer(g.box)
	t.Cleanup(remote.Close)
	g.hub = remote.URL
	g.configure(server, more)
	return g
}

// configure writes the configuration anew.
func (g *lettersRig) configure(server, more string) {
	g.t.Helper()
	text := fmt.Sprintf(`
server: {host: 127.0.0.1, port: %s, data_dir: %q, min_free_bytes: 1MiB, admin_token: %s %s}
api_keys:
  - {id: web, client_secret: %s, server_secret: %s}
destinations:
  crm:
    type: hubspot
    hubspot: {access_token: %s, hub_id: %q, base_url: %q}
%s
`, g.port, g.dir, plantedAdmin, server, plantedClient, plantedServer, plantedToken, demoHub, g.hub, more)
	if err := os.WriteFile(g.file, []byte(text), 0o600); err != nil {
		g.t.Fatal(err)
	}
}

// start starts the router with the configuration as it is now.
func (g *lettersRig) start() {
	g.t.Helper()
	cfg, err := load(g.file)
	if err != nil {
		g.t.Fatal(err)
	}
	srv, err := newService(cfg, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		g.t.Fatal(err)
	}
	g.run = runService(g.t, srv, g.port)
}

// post posts events and waits until nothing is left to do.
func (g *lettersRig) post(events string) {
	g.t.Helper()
	g.run.post(plantedServer, events)
	g.run.settle()
}

// letters runs a command and wants it to succeed.
func (g *lettersRig) letters(args ...string) string {
	g.t.Helper()
	out, errText, code := g.try(args...)
	if code != exitOK {
		g.t.Fatalf("deadletters %v: exit %d\n%s%s", args, code, out, errText)
	}
	return out
}

// try runs a command.
func (g *lettersRig) try(args ...string) (out, errText string, code int) {
	g.t.Helper()
	return command(g.t, append([]string{"deadletters", args[0], "--config", g.file}, args[1:]...)...)
}

// refused wants a command to end with a code and a text.
func (g *lettersRig) refused(code int, want string, args ...string) {
	g.t.Helper()
	out, errText, got := g.try(args...)
	if got != code || !strings.Contains(errText, want) {
		g.t.Errorf("deadletters %v: exit %d %q %q, want %d %q", args, got, out, errText, code, want)
	}
}

// listed returns one member of each dead letter, newest first.
func (g *lettersRig) listed(member string, args ...string) (all []string) {
	g.t.Helper()
	for line := range strings.Lines(g.letters(append([]string{"list", "--json"}, args...)...)) {
		all = append(all, gjson.Get(line, member).String())
	}
	return all
}

// request asks the router's admin API.
func (g *lettersRig) request(method, path, body string, header ...string) (int, string) {
	g.t.Helper()
	return ask(g.t, method, "http://127.0.0.1:"+g.port+path, body, append([]string{"X-Admin-Token", plantedAdmin}, header...)...)
}

// deadEvents are three events that HubSpot refuses and one that it takes.
const deadEvents = `[{"event_id":"e1","event_type":"user_identify","user":{"email":"ada@example.c1","firstname":"Ada","score":12345678901234567890}},
	{"event_id":"e2","event_type":"user_identify","user":{"email":"bob@example.c1","firstname":"Bob"}},
	{"event_id":"e3","event_type":"user_identify","user":{"email":"eve@example.c1","firstname":"Eve"}},
	{"event_id":"e4","event_type":"user_identify","user":{"email":"fine@example.com","firstname":"Fine"}}]`

// storeOf opens the store of a router that is stopped.
func storeOf(g *lettersRig) (*store.Store, error) { return store.OpenReadOnly(g.dir, nil) }

func mapKeys[V any](m map[string]V) iter.Seq[string] { return maps.Keys(m) }
