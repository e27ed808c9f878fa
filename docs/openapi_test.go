package docs

import (
	"cmp"
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

// spec is openapi.yaml. It is read as nodes: the order of examples counts, and errors name lines.
type spec struct{ root *yaml.Node }

// operation is what a path does by one method.
type operation struct {
	*yaml.Node
	method, path string
	secret       string   // x-secret
	schemes      []string // ways to send it, in order
	open         bool     // works without
	params       []*yaml.Node
}

func (o *operation) String() string { return o.method + " " + o.path }

var methods = []string{"get", "put", "post", "delete", "options", "head", "patch", "trace"}

func loadSpec(t *testing.T) *spec {
	t.Helper()
	data, err := os.ReadFile("openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		t.Fatal(err)
	}
	return &spec{doc.Content[0]}
}

// follow leads through aliases and references; nil stays nil, and so does a reference that leads nowhere.
func (s *spec) follow(n *yaml.Node) *yaml.Node {
	for n != nil {
		if n.Kind == yaml.AliasNode {
			n = n.Alias
			continue
		}
		ref := member(n, "$ref")
		if ref == nil {
			return n
		}
		n = s.target(ref.Value)
	}
	return nil
}

// target is what a reference names.
func (s *spec) target(ref string) *yaml.Node {
	n := s.root
	pointer, ok := strings.CutPrefix(ref, "#/")
	if !ok {
		return nil
	}
	for name := range strings.SplitSeq(pointer, "/") {
		if n = member(n, strings.NewReplacer("~1", "/", "~0", "~").Replace(name)); n == nil {
			return nil
		}
	}
	return n
}

// get goes down by names.
func (s *spec) get(n *yaml.Node, names ...string) *yaml.Node {
	n = s.follow(n)
	for _, name := range names {
		n = s.follow(member(n, name))
	}
	return n
}

// member is a value of a mapping.
func member(n *yaml.Node, name string) *yaml.Node {
	for k, v := range pairs(n) {
		if k == name {
			return v
		}
	}
	return nil
}

// pairs are the members of a mapping in their order.
func pairs(n *yaml.Node) func(func(string, *yaml.Node) bool) {
	return func(yield func(string, *yaml.Node) bool) {
		if n != nil && n.Kind == yaml.AliasNode {
			n = n.Alias
		}
		if n == nil || n.Kind != yaml.MappingNode {
			return
		}
		for i := 0; i < len(n.Content); i += 2 {
			if !yield(n.Content[i].Value, n.Content[i+1]) {
				return
			}
		}
	}
}

// text is a scalar, "" if there is none.
func text(n *yaml.Node) string {
	if n == nil || n.Kind != yaml.ScalarNode {
		return ""
	}
	return n.Value
}

// jsonOf is a node's value as JSON.
func jsonOf(t *testing.T, n *yaml.Node) []byte {
	t.Helper()
	var v any
	if n != nil {
		if err := n.Decode(&v); err != nil {
			t.Fatalf("openapi.yaml:%d: %v", n.Line, err)
		}
	}
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatalf("openapi.yaml:%d: %v", n.Line, err)
	}
	return data
}

// operations are all of them, in their order.
func (s *spec) operations() []*operation {
	var all []*operation
	for path, item := range pairs(s.get(s.root, "paths")) {
		for method, node := range pairs(s.follow(item)) {
			if !slices.Contains(methods, method) {
				continue
			}
			o := &operation{Node: node, method: strings.ToUpper(method), path: path, secret: text(member(node, "x-secret"))}
			if list := member(node, "security"); list != nil {
				for _, way := range list.Content {
					if len(way.Content) == 0 {
						o.open = true
					} else {
						o.schemes = append(o.schemes, way.Content[0].Value)
					}
				}
			}
			if list := member(node, "parameters"); list != nil {
				for _, p := range list.Content {
					o.params = append(o.params, s.follow(p))
				}
			}
			all = append(all, o)
		}
	}
	return all
}

// walk visits all nodes.
func walk(n *yaml.Node, visit func(*yaml.Node)) {
	visit(n)
	for _, c := range n.Content {
		walk(c, visit)
	}
}

var inBraces = regexp.MustCompile(`\{(\w+)\}`)

// TestOpenAPI: openapi.yaml is whole. Names are used once, references lead somewhere, and each operation says what it is, who may do it and what it answers.
// More is checked by a linter in the end-to-end tests.
func TestOpenAPI(t *testing.T) {
	t.Parallel()
	s := loadSpec(t)
	if v := text(s.get(s.root, "openapi")); !strings.HasPrefix(v, "3.1.") {
		t.Errorf("OpenAPI %s", v)
	}
	versions := regexp.MustCompile(`(?m)^## \[(\d[^\]]*)\]`).FindStringSubmatch(load(t, "../CHANGELOG.md").text)
	if v := text(s.get(s.root, "info", "version")); v != versions[1] {
		t.Errorf("version %s, the newest of the changelog is %s", v, versions[1])
	}
	used := map[string]bool{}
	walk(s.root, func(n *yaml.Node) {
		if n.Kind != yaml.MappingNode {
			return
		}
		seen := map[string]bool{}
		for k := range pairs(n) {
			if seen[k] {
				t.Errorf("openapi.yaml:%d: %s stands twice", n.Line, k)
			}
			seen[k] = true
		}
		if ref := member(n, "$ref"); ref != nil {
			used[ref.Value] = true
			if s.target(ref.Value) == nil {
				t.Errorf("openapi.yaml:%d: %s leads nowhere", ref.Line, ref.Value)
			}
		}
	})
	schemes := s.get(s.root, "components", "securitySchemes")
	ids, tags := map[string]bool{}, map[string]bool{}
	for _, tag := range s.get(s.root, "tags").Content {
		tags[text(member(tag, "name"))] = true
	}
	all := s.operations()
	if len(all) < 70 {
		t.Errorf("%d operations", len(all))
	}
	for _, o := range all {
		id := text(member(o.Node, "operationId"))
		if id == "" || ids[id] {
			t.Errorf("%s: operationId %q is missing or stands twice", o, id)
		}
		ids[id] = true
		if text(member(o.Node, "summary")) == "" || member(o.Node, "tags") == nil || !tags[text(member(o.Node, "tags").Content[0])] {
			t.Errorf("%s has no summary or no known tag", o)
		}
		if member(o.Node, "security") == nil || !slices.Contains([]string{"client", "server", "either", "server or admin", "admin", "token", "none"}, o.secret) || (o.secret == "none") != (len(o.schemes) == 0) {
			t.Errorf("%s: security and x-secret %q do not say whose secret it takes", o, o.secret)
		}
		for _, scheme := range o.schemes {
			used["#/components/securitySchemes/"+scheme] = true
			if member(schemes, scheme) == nil {
				t.Errorf("%s: there is no security scheme %s", o, scheme)
			}
		}
		var inPath, named []string
		for _, m := range inBraces.FindAllStringSubmatch(o.path, -1) {
			inPath = append(inPath, m[1])
		}
		for _, p := range o.params {
			if text(member(p, "description")) == "" {
				t.Errorf("%s: parameter %s has no description", o, text(member(p, "name")))
			}
			if text(member(p, "in")) == "path" {
				named = append(named, text(member(p, "name")))
			}
		}
		if !slices.Equal(inPath, named) {
			t.Errorf("%s: path parameters %v", o, named)
		}
		classes := map[byte]bool{}
		for status, answer := range pairs(member(o.Node, "responses")) {
			classes[status[0]] = true
			if text(s.get(answer, "description")) == "" {
				t.Errorf("%s: %s has no description", o, status)
			}
		}
		if !classes['2'] && !classes['3'] || !classes['4'] || !classes['5'] {
			t.Errorf("%s: answers of success, a mistake and a fault are needed", o)
		}
	}
	for kind, parts := range pairs(s.get(s.root, "components")) {
		for name := range pairs(parts) {
			if !used["#/components/"+kind+"/"+name] {
				t.Errorf("nothing refers to components/%s/%s", kind, name)
			}
		}
	}
}

// operationOf finds the operation of a request; nil: there is none.
func operationOf(all []*operation, method, path string) *operation {
	i := slices.IndexFunc(all, func(o *operation) bool { return o.method == method && o.matches(path) })
	if i < 0 {
		return nil
	}
	return all[i]
}

// matches says whether a path is one of the operation's. A text without slashes is in place of each parameter, but for those that take all that follows.
func (o *operation) matches(path string) bool {
	pattern := regexp.QuoteMeta(inBraces.ReplaceAllString(o.path, "<$1>"))
	pattern = strings.NewReplacer("<anything>", ".+", "<file>", ".+").Replace(pattern)
	pattern = regexp.MustCompile(`<\w+>`).ReplaceAllString(pattern, `[^/]+`)
	return regexp.MustCompile(`^` + pattern + `$`).MatchString(path)
}

// parameter is the value that a parameter has in a request: its own example, or that of the name.
func (s *spec) parameter(p *yaml.Node, example string) *yaml.Node {
	return cmp.Or(member(p, "example"), s.get(p, "examples", example, "value"))
}

// TestOpenAPIRefusals: every message with which ingest refuses a request stands in an example.
func TestOpenAPIRefusals(t *testing.T) {
	t.Parallel()
	s := loadSpec(t)
	var shown []string
	walk(s.root, func(n *yaml.Node) {
		if v := member(n, "value"); v != nil {
			if message := text(member(v, "message")); message != "" {
				shown = append(shown, message)
			} else {
				shown = append(shown, text(v)) // JSON in a text
			}
		}
	})
	messages := regexp.MustCompile(`\bmessage: +(?:fmt\.Sprintf\()?"([^"%]+)`).FindAllStringSubmatch(ingestSource(t), -1)
	if len(messages) < 25 {
		t.Fatalf("the source has %d messages", len(messages))
	}
	for _, m := range messages {
		if !slices.ContainsFunc(shown, func(text string) bool { return strings.Contains(text, m[1]) }) {
			t.Errorf("no example shows %q", m[1])
		}
	}
}
