package docs

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"net/http"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// notServed is the answer to what is no route.
const notServed = "404 page not found"

// TestOpenAPIRoutes: every path of openapi.yaml is served by its method, and every path that is served stands there. What could be a path is found in the source:
// its texts that begin with a slash, and its words behind those that end with one.
func TestOpenAPIRoutes(t *testing.T) {
	t.Parallel()
	all := loadSpec(t).operations()
	router := newRigs(t).at(t, "").router
	ask := func(method, path string) (status int, body string, header http.Header) {
		req, err := http.NewRequestWithContext(t.Context(), method, "http://"+router+path, nil)
		if err != nil {
			return 404, notServed, nil // nothing that a path can be
		}
		req.Header.Set("Origin", "https://www.example.com")
		res, err := client.Do(req)
		if err != nil {
			t.Errorf("%s %s: %v", method, path, err)
			return 404, notServed, nil
		}
		defer res.Body.Close()
		data, err := io.ReadAll(res.Body)
		if err != nil {
			t.Errorf("%s %s: %v", method, path, err)
		}
		return res.StatusCode, string(data), res.Header
	}
	for _, o := range all {
		path := inBraces.ReplaceAllString(o.path, "x")
		path = strings.Replace(path, "/api/s/s2s/x", "/api/s/s2s/event", 1)
		path = strings.Replace(path, "/api/s/x", "/api/s/event", 1)
		if status, body, _ := ask(o.method, path); status == http.StatusNotFound && body == notServed {
			t.Errorf("%s is not served", o)
		}
		if o.method == http.MethodGet {
			got, _, _ := ask(http.MethodHead, path)
			if want, _, _ := ask(http.MethodGet, path); got != want && !strings.HasSuffix(path, ".gif") {
				t.Errorf("HEAD %s: %d, GET %d", path, got, want)
			}
		}
	}
	paths := possiblePaths(t)
	if len(paths) < 1000 {
		t.Fatalf("%d possible paths", len(paths))
	}
	type request struct{ method, path string }
	requests := make(chan request)
	var asking sync.WaitGroup
	for range 16 {
		asking.Go(func() {
			for r := range requests {
				status, body, header := ask(r.method, r.path)
				switch {
				case status == http.StatusNotFound && body == notServed:
				case r.method == "OPTIONS" && header.Get("Access-Control-Allow-Methods") == "": // tells a browser no
				case operationOf(all, r.method, strings.TrimSuffix(r.path, "/")) == nil:
					t.Errorf("%s %s is served (%d) and not documented", r.method, r.path, status)
				}
			}
		})
	}
	for path, literal := range paths {
		requests <- request{"GET", path}
		requests <- request{"POST", path}
		if literal {
			requests <- request{"OPTIONS", path}
			requests <- request{"PUT", path}
			requests <- request{"DELETE", path}
			requests <- request{"PATCH", path}
		}
	}
	close(requests)
	asking.Wait()
}

// possiblePaths are all that the router's source could mean; true are those that stand there.
func possiblePaths(t *testing.T) map[string]bool {
	t.Helper()
	var files []string
	for _, pattern := range []string{"../pkg/ingest/*.go", "../cmd/router/*.go"} {
		found, err := filepath.Glob(pattern)
		if err != nil || len(found) == 0 {
			t.Fatal(found, err)
		}
		files = append(files, found...)
	}
	paths, words := map[string]bool{}, map[string]bool{"x": true}
	word := regexp.MustCompile(`^[a-z0-9_.-]{1,20}$`)
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			lit, ok := n.(*ast.BasicLit)
			if !ok || lit.Kind != token.STRING {
				return true
			}
			text, err := strconv.Unquote(lit.Value)
			if err != nil {
				t.Fatal(err)
			}
			_, path, method := strings.Cut(text, " /")
			switch {
			case strings.HasPrefix(text, "/") && !strings.ContainsAny(text, " ?\n"):
				paths[text] = true
			case method && !strings.ContainsAny(path, " ?\n"): // "GET /…"
				paths["/"+path] = true
			case word.MatchString(text) && strings.HasPrefix(name, "../pkg/ingest"):
				words[text] = true
			}
			return true
		})
	}
	all := map[string]bool{}
	for path := range paths {
		all[path] = true
		if !strings.HasSuffix(path, "/") && !strings.HasSuffix(path, ".") {
			continue
		}
		for w := range words {
			all[path+w] = paths[path+w]
		}
		for end := range paths {
			if strings.LastIndexByte(end, '/') == 0 { // a key stands between
				all[path+"x"+end] = false
			}
		}
	}
	return all
}

// TestOpenAPITables: openapi.yaml has the routes of the tables of protocols.md, and those have the routes of openapi.yaml.
func TestOpenAPITables(t *testing.T) {
	t.Parallel()
	all := loadSpec(t).operations()
	listed := map[*operation]bool{}
	p := load(t, "protocols.md")
	for _, heading := range []string{"Routes", messageTables} {
		for _, row := range p.tableUnder(t, heading).rows {
			method := ""
			for _, span := range code(row[0]) {
				if m, path, ok := strings.Cut(span, " "); ok {
					method, span = m, path
				}
				if !strings.HasPrefix(span, "/") {
					continue
				}
				o := operationOf(all, method, span)
				if o == nil {
					t.Errorf("openapi.yaml lacks %s %s", method, span)
					continue
				}
				listed[o] = true
				if secret := o.secret; secret != strings.Replace(strings.Split(row[1], ",")[0], "client or server", "either", 1) && method == "POST" {
					t.Errorf("%s takes %s, protocols.md says %s", o, secret, row[1])
				}
			}
		}
	}
	for _, o := range all {
		if o.method != "OPTIONS" && !listed[o] {
			t.Errorf("the tables of protocols.md lack %s", o)
		}
	}
}
