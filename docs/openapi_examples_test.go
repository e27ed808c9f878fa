package docs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"gopkg.in/yaml.v3"
)

// TestOpenAPIExamples sends every example of openapi.yaml and compares the answer with the example, its headers with those that are named, and both bodies with
// their schemas.
func TestOpenAPIExamples(t *testing.T) {
	t.Parallel()
	s := loadSpec(t)
	x := &exampleRun{spec: s, rigs: newRigs(t), schemas: s.compiler(t), source: ingestSource(t) + routerSource(t) + connectionsSource(t) + proxySource(t)}
	for _, o := range s.operations() {
		t.Run(o.String(), func(t *testing.T) {
			t.Parallel()
			for _, e := range s.exchanges(t, o) {
				x.run(t, e)
			}
		})
	}
}

// TestOpenAPISecrets: each way to send a secret works, and an operation takes those secrets that it names.
func TestOpenAPISecrets(t *testing.T) {
	t.Parallel()
	s := loadSpec(t)
	r := newRigs(t)
	secrets := map[string]string{"client": "js.change-me", "server": "s2s.change-me", "admin": "admin.change-me", "no": "no-such-secret"}
	for _, o := range s.operations() {
		if o.secret == "none" || o.secret == "token" { // tokens are the team's own
			continue
		}
		t.Run(o.String(), func(t *testing.T) {
			t.Parallel()
			for kind, secret := range secrets {
				for _, scheme := range o.schemes {
					e := s.exchanges(t, o)[0]
					e.with = &yaml.Node{Kind: yaml.MappingNode}
					e.op = &operation{Node: o.Node, method: o.method, path: o.path, params: o.params} // without a secret
					req := s.request(t, e, r.at(t, ""))
					query := req.URL.Query()
					s.authorize(t, req, query, scheme, secret)
					req.URL.RawQuery = query.Encode()
					res, err := client.Do(req)
					if err != nil {
						t.Fatal(err)
					}
					res.Body.Close()
					takes := o.secret == kind || o.secret == "either" && (kind == "client" || kind == "server") || o.secret == "server or admin" && (kind == "server" || kind == "admin") || o.open
					if want := http.StatusUnauthorized; takes == (res.StatusCode == want) {
						t.Errorf("%s with a %s secret by %s: %s", o, kind, scheme, res.Status)
					}
				}
			}
		})
	}
}

// connectionsSource is the source of what pkg/connections and pkg/portal answer.
func connectionsSource(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	for _, file := range []string{"connections/http.go", "connections/uninstall.go", "portal/account.go"} {
		data, err := os.ReadFile("../pkg/" + file)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(data)
	}
	return all.String()
}

// proxySource is the source of what pkg/proxy answers.
func proxySource(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	for _, file := range []string{"proxy.go", "forward.go", "places.go"} {
		data, err := os.ReadFile("../pkg/proxy/" + file)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(data)
	}
	return all.String()
}

// exampleRun is what all examples need.
type exampleRun struct {
	spec    *spec
	rigs    *rigs
	schemas *jsonschema.Compiler
	source  string
}

func (x *exampleRun) run(t *testing.T, e *exchange) {
	t.Helper()
	if problem := x.validRequest(t, e); problem != "" {
		t.Errorf("%s: the request is not as its schema says: %s", e, problem)
	}
	if why := text(member(e.example, "x-not-run")); why != "" {
		if message := text(x.spec.get(e.example, "value", "message")); message != "" && !strings.Contains(x.source, message) {
			t.Errorf("%s: nothing answers %q", e, message)
		}
		return
	}
	router := text(member(e.with, "router"))
	d := x.rigs.at(t, router)
	if change := member(e.with, "file"); change != nil {
		path := filepath.Join(d.dir, "router.yaml")
		was, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		d.write(t, strings.ReplaceAll(string(was), text(member(change, "replace")), text(member(change, "with"))))
		defer func() {
			d.write(t, string(was))
			answer(t, "POST", "http://"+d.router+"/api/v1/reload", "")
		}()
	}
	e.prepare(t, d.router)
	// What comes of an event is known a little later, and so is that the disk is full.
	patience := time.Now()
	if member(e.with, "before") != nil || router == "full" {
		patience = patience.Add(20 * time.Second)
	}
	for {
		problem := x.once(t, e, d)
		if problem == "" {
			return
		}
		if time.Now().After(patience) {
			t.Errorf("%s: %s", e, problem)
			return
		}
		time.Sleep(100 * time.Millisecond) // polls another process
	}
}

// once sends a request and says what is wrong with its answer.
func (x *exampleRun) once(t *testing.T, e *exchange, d *deployment) string {
	t.Helper()
	req := x.spec.request(t, e, d)
	res, err := client.Do(req)
	if err != nil {
		t.Fatalf("%s: %v", e, err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatalf("%s: %v", e, err)
	}
	status := e.status
	if own := text(member(e.example, "x-status")); own != "" {
		status = own
	}
	if strconv.Itoa(res.StatusCode) != status {
		return fmt.Sprintf("%s, want %s\n%.1000s", res.Status, status, body)
	}
	if problem := x.headers(t, e, req, res); problem != "" {
		return problem
	}
	kind, params, err := mime.ParseMediaType(res.Header.Get("Content-Type"))
	content := member(member(e.answer, "content"), kind)
	switch {
	case member(e.answer, "content") == nil:
		if len(body) > 0 {
			return fmt.Sprintf("a body that is not documented: %.1000s", body)
		}
		return ""
	case err != nil || content == nil || e.media != "" && kind != e.media:
		return fmt.Sprintf("content type %s, want %s", res.Header.Get("Content-Type"), e.media)
	case params["charset"] != "utf-8" && strings.HasPrefix(kind, "text/") || kind == "application/json" && params["charset"] != "utf-8":
		return "content type " + res.Header.Get("Content-Type")
	}
	if schema := member(content, "schema"); schema != nil {
		var value any = string(body)
		if kind == "application/json" {
			if value, err = jsonschema.UnmarshalJSON(bytes.NewReader(body)); err != nil {
				return fmt.Sprintf("%v: %.1000s", err, body)
			}
		}
		if err := x.schema(t, schema, true).Validate(value); err != nil {
			return fmt.Sprintf("%#v\n%.1000s", err, body)
		}
	}
	if e.example == nil {
		return ""
	}
	return x.compare(t, e, body)
}

// compare holds a body against the example.
func (x *exampleRun) compare(t *testing.T, e *exchange, body []byte) string {
	t.Helper()
	want := member(e.example, "value")
	if want.Kind == yaml.ScalarNode {
		if !prints(strings.TrimSpace(string(body)), strings.TrimSpace(want.Value)) {
			return fmt.Sprintf("got %.2000s\nwant %s", body, want.Value)
		}
		return ""
	}
	g, w := decoded(body), decoded(jsonOf(t, want))
	if list := member(e.example, "x-varies"); list != nil {
		for _, pointer := range list.Content {
			names := strings.Split(strings.TrimPrefix(pointer.Value, "/"), "/")
			if !vary(g, names) || !vary(w, names) {
				return fmt.Sprintf("x-varies: %s is missing in the answer or the example: %.2000s", pointer.Value, body)
			}
		}
	}
	if diff := cmp.Diff(w, alike(w, g)); diff != "" {
		return fmt.Sprintf("(-example +answer):\n%s", diff)
	}
	return ""
}

// vary takes out what a pointer names.
func vary(v any, names []string) bool {
	found := false
	one := func(name string, value any, set func(any)) {
		if names[0] != "*" && names[0] != name {
			return
		}
		if len(names) == 1 {
			set("varies")
			found = true
		} else if vary(value, names[1:]) {
			found = true
		}
	}
	switch v := v.(type) {
	case map[string]any:
		for name, value := range v {
			one(name, value, func(x any) { v[name] = x })
		}
	case []any:
		for i, value := range v {
			one(strconv.Itoa(i), value, func(x any) { v[i] = x })
		}
	}
	return found
}

var uuidText = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// alike is what was got, with the texts of the example where one stands for the other: times, UUIDs, and texts with "...".
func alike(want, got any) any {
	switch w := want.(type) {
	case map[string]any:
		if g, ok := got.(map[string]any); ok {
			out := map[string]any{}
			for name, value := range g {
				out[name] = alike(w[name], value)
			}
			return out
		}
	case []any:
		if g, ok := got.([]any); ok {
			out := make([]any, len(g))
			for i := range g {
				out[i] = g[i]
				if i < len(w) {
					out[i] = alike(w[i], g[i])
				}
			}
			return out
		}
	case string:
		g, ok := got.(string)
		if !ok {
			break
		}
		_, wErr := time.Parse(time.RFC3339Nano, w)
		_, gErr := time.Parse(time.RFC3339Nano, g)
		if wErr == nil && gErr == nil || uuidText.MatchString(w) && uuidText.MatchString(g) || strings.Contains(w, "...") && prints(g, w) {
			return want
		}
	}
	return got
}

// headers says what is wrong with the headers of an answer: those that are named must be as their schemas say, and there are no others.
func (x *exampleRun) headers(t *testing.T, e *exchange, req *http.Request, res *http.Response) string {
	t.Helper()
	named := member(e.answer, "headers")
	for name, header := range pairs(named) {
		header = x.spec.follow(header)
		values := res.Header.Values(name)
		if len(values) == 0 {
			if text(member(header, "required")) == "true" {
				return "no header " + name
			}
			continue
		}
		if err := x.schema(t, member(header, "schema"), false).Validate(values[0]); err != nil {
			return fmt.Sprintf("header %s: %q: %#v", name, values[0], err)
		}
	}
	for name := range res.Header {
		if !slices.Contains([]string{"Date", "Content-Type", "Content-Length", "Connection"}, name) && memberFold(named, name) == nil {
			return fmt.Sprintf("header %s: %s is not documented", name, res.Header.Get(name))
		}
	}
	allow := member(named, "Access-Control-Allow-Origin")
	if allow == nil || text(member(x.spec.follow(allow), "required")) == "true" {
		return ""
	}
	// Browsers may read the answer to what they sent from an origin that is allowed; nobody asks from elsewhere.
	want := req.Header.Get("Origin")
	if !slices.ContainsFunc(e.op.params, func(p *yaml.Node) bool { return text(member(p, "name")) == "Origin" }) || res.StatusCode == http.StatusForbidden {
		want = ""
	}
	if got := res.Header.Get("Access-Control-Allow-Origin"); got != want {
		return fmt.Sprintf("Access-Control-Allow-Origin: %q, want %q", got, want)
	}
	return ""
}

// memberFold is member for names of headers.
func memberFold(n *yaml.Node, name string) *yaml.Node {
	for k, v := range pairs(n) {
		if http.CanonicalHeaderKey(k) == name {
			return v
		}
	}
	return nil
}

// validRequest holds the examples of a request against their schemas. What x-request says is a mistake on purpose.
func (x *exampleRun) validRequest(t *testing.T, e *exchange) string {
	t.Helper()
	check := func(schema, value *yaml.Node) string {
		if schema == nil || value == nil {
			return ""
		}
		v, err := jsonschema.UnmarshalJSON(bytes.NewReader(jsonOf(t, value)))
		if err != nil {
			t.Fatal(err)
		}
		if err := x.schema(t, schema, false).Validate(v); err != nil {
			return fmt.Sprintf("line %d: %#v", value.Line, err)
		}
		return ""
	}
	for _, p := range e.op.params {
		if problem := check(member(p, "schema"), x.spec.parameter(p, e.name)); problem != "" {
			return problem
		}
	}
	return check(x.spec.get(e.op.Node, "requestBody", "content", e.kind, "schema"), e.body)
}

const specURL = "openapi.json"

// compiler knows the schemas of openapi.yaml: at specURL as they stand, and at "closed-" and that with no members but those that are named.
func (s *spec) compiler(t *testing.T) *jsonschema.Compiler {
	t.Helper()
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.AssertFormat()
	for _, prefix := range []string{"", "closed-"} {
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(jsonOf(t, s.root)))
		if err != nil {
			t.Fatal(err)
		}
		if prefix != "" {
			closeObjects(doc.(map[string]any)["components"].(map[string]any)["schemas"])
		}
		if err := c.AddResource(prefix+specURL, doc); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// closeObjects lets objects have no members but those that are named, unless they say otherwise: an answer with others is not documented.
func closeObjects(v any) {
	switch v := v.(type) {
	case map[string]any:
		_, named := v["properties"].(map[string]any)
		if _, said := v["additionalProperties"]; named && v["type"] == "object" && !said {
			v["additionalProperties"] = false
		}
		for _, m := range v {
			closeObjects(m)
		}
	case []any:
		for _, m := range v {
			closeObjects(m)
		}
	}
}

// schema compiles a schema of openapi.yaml.
func (x *exampleRun) schema(t *testing.T, n *yaml.Node, closed bool) *jsonschema.Schema {
	t.Helper()
	prefix := ""
	if closed {
		prefix = "closed-"
	}
	data := bytes.ReplaceAll(jsonOf(t, n), []byte(`"$ref":"#`), []byte(`"$ref":"`+prefix+specURL+`#`))
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	x.rigs.mu.Lock() // a compiler is for one at a time
	defer x.rigs.mu.Unlock()
	at := fmt.Sprintf("%sline-%d-%d.json", prefix, n.Line, n.Column)
	var exists *jsonschema.ResourceExistsError
	if err := x.schemas.AddResource(at, doc); err != nil && !errors.As(err, &exists) {
		t.Fatal(err)
	}
	schema, err := x.schemas.Compile(at)
	if err != nil {
		t.Fatalf("openapi.yaml:%d: %v", n.Line, err)
	}
	return schema
}

// routerSource is the source of cmd/router.
func routerSource(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	err := fs.WalkDir(os.DirFS("../cmd/router"), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return err
		}
		data, err := os.ReadFile(filepath.Join("../cmd/router", name))
		all.Write(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all.String()
}
