package docs

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"
)

// binary is the path of the router, which is built once, for the first test that runs it.
var binary = sync.OnceValue(func() string {
	path := filepath.Join(buildDir, "router")
	args := []string{"build", "-o", path}
	if raceDetector { // as the other tests build it: the parts are in the build cache then
		args = append(args, "-race")
	}
	build := exec.Command("go", append(args, "../cmd/router")...)
	build.Stdout, build.Stderr = os.Stdout, os.Stderr
	if err := build.Run(); err != nil {
		panic("build the router: " + err.Error())
	}
	return path
})

var buildDir string // made by TestMain

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "router-docs-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	buildDir = dir
	if os.Getenv("GORACE") == "" { // a program with the race detector waits for a second when it ends
		os.Setenv("GORACE", "atexit_sleep_ms=50")
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// page is one Markdown file.
type page struct {
	path   string // from this folder
	text   string
	blocks []block
	tables []table
	ids    map[string]bool // of its headings, as links name them
}

// block is a fenced block. The words behind its language say what a test does with it:
//
//	yaml             a configuration, perhaps in part: it must load
//	yaml ci          a job of CI: its commands of the router run behind the shell examples
//	yaml bad         it must not; the next block shows the messages
//	yaml jitsu       a file of Jitsu's: the two blocks after it are what router import-config makes of it, and its report
//	yaml file=NAME   it must load, and the shell examples of the page find it under that name
//	sh run           runs alone
//	sh served        runs beside a router with router.yaml and a sandbox
//	sh store         runs beside an open store, if sqlite3 is installed
//	text output      what the block before it prints; "..." stands for any text, also of several lines
//	text demo        lines that the demo prints
//	sql NAME         runs on a store
//	go example       stands in one of example_*_test.go
//	js sdk           runs with Jitsu's SDK, if that is installed
//	js transform     compiles as one
type block struct {
	page  *page
	line  int
	lang  string
	words []string
	text  string
}

func (b *block) is(lang string, words ...string) bool {
	return b.lang == lang && strings.Join(b.words, " ") == strings.Join(words, " ")
}

func (b *block) String() string { return fmt.Sprintf("%s:%d", b.page.path, b.line) }

// table is a table under a heading.
type table struct {
	page    *page
	line    int
	heading string
	header  []string
	rows    [][]string
}

var (
	fence   = regexp.MustCompile("^```(\\S*) *(.*)$")
	heading = regexp.MustCompile(`^#+ (.*)$`)
)

// load reads a page.
func load(t *testing.T, path string) *page {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	p := &page{path: path, text: string(data), ids: map[string]bool{}}
	lines := strings.Split(p.text, "\n")
	under := ""
	for i := 0; i < len(lines); i++ {
		if m := fence.FindStringSubmatch(lines[i]); m != nil {
			b := block{page: p, line: i + 1, lang: m[1], words: strings.Fields(m[2])}
			for i++; i < len(lines) && lines[i] != "```"; i++ {
				b.text += lines[i] + "\n"
			}
			p.blocks = append(p.blocks, b)
		} else if m := heading.FindStringSubmatch(lines[i]); m != nil {
			under = m[1]
			p.ids[anchor(under)] = true
		} else if strings.HasPrefix(lines[i], "|") {
			tb := table{page: p, line: i + 1, heading: under, header: cells(lines[i])}
			for i += 2; i < len(lines) && strings.HasPrefix(lines[i], "|"); i++ {
				tb.rows = append(tb.rows, cells(lines[i]))
			}
			i--
			p.tables = append(p.tables, tb)
		}
	}
	return p
}

// loadAll reads the README and all pages of this folder.
func loadAll(t *testing.T) []*page {
	t.Helper()
	paths, err := filepath.Glob("*.md")
	if err != nil || len(paths) < 5 {
		t.Fatalf("pages: %v %v", paths, err)
	}
	all := []*page{load(t, "../README.md"), load(t, "../CHANGELOG.md")}
	for _, path := range paths {
		all = append(all, load(t, path))
	}
	return all
}

// cells splits a row at the bars that are not escaped.
func cells(line string) []string {
	const bar = "\x00"
	line = strings.ReplaceAll(strings.Trim(strings.TrimSpace(line), "|"), `\|`, bar)
	var out []string
	for cell := range strings.SplitSeq(line, "|") {
		out = append(out, strings.ReplaceAll(strings.TrimSpace(cell), bar, "|"))
	}
	return out
}

// code returns the text of the code spans in a cell.
func code(cell string) []string {
	var spans []string
	for i, part := range strings.Split(cell, "`") {
		if i%2 == 1 {
			spans = append(spans, part)
		}
	}
	return spans
}

// tableUnder returns the only table under a heading.
func (p *page) tableUnder(t *testing.T, heading string) table {
	t.Helper()
	var found []table
	for _, tb := range p.tables {
		if tb.heading == heading {
			found = append(found, tb)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%s: %d tables under %q, want 1", p.path, len(found), heading)
	}
	return found[0]
}

// anchor is the fragment by which GitHub links to a heading.
func anchor(heading string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(heading) {
		switch {
		case r == ' ':
			b.WriteByte('-')
		case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
			b.WriteRune(r)
		}
	}
	return b.String()
}

var (
	link     = regexp.MustCompile(`\]\(([^)]+)\)`)
	codeSpan = regexp.MustCompile("`[^`]*`")
)

// TestLinks follows the links between pages.
func TestLinks(t *testing.T) {
	pages := map[string]*page{}
	for _, p := range loadAll(t) {
		pages[absolute(t, p.path)] = p
	}
	for path, p := range pages {
		for _, m := range link.FindAllStringSubmatch(codeSpan.ReplaceAllString(p.text, ""), -1) {
			target, fragment, _ := strings.Cut(m[1], "#")
			if strings.Contains(target, "://") {
				continue
			}
			file := path
			if target != "" {
				file = absolute(t, filepath.Join(filepath.Dir(path), target))
			}
			if _, err := os.Stat(file); err != nil {
				t.Errorf("%s: the link %s leads nowhere", p.path, m[1])
			} else if other := pages[file]; fragment != "" && (other == nil || !other.ids[fragment]) {
				t.Errorf("%s: %s names a heading that is not there", p.path, m[1])
			}
		}
	}
}

func absolute(t *testing.T, path string) string {
	t.Helper()
	abs, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return abs
}

// TestFences: every block is of a kind that a test knows, so that none is left unchecked by a slip.
func TestFences(t *testing.T) {
	known := map[string]bool{
		"sh": true, "sh run": true, "sh served": true, "sh store": true, "yaml": true, "yaml bad": true, "yaml ci": true, "yaml jitsu": true, "text": true, "text output": true, "text demo": true,
		"js sdk": true, "js transform": true, "js": true, "html": true, "go": true, "go example": true, "json": true, "ini": true, "dockerfile": true,
	}
	for _, p := range loadAll(t) {
		for _, b := range p.blocks {
			info := strings.TrimSpace(b.lang + " " + strings.Join(b.words, " "))
			if !known[info] && b.lang != "sql" && !strings.HasPrefix(info, "yaml file=") {
				t.Errorf("%s: no test knows blocks of the kind %q", &b, info)
			}
		}
	}
}

// TestPackageTable: architecture.md has the imports that cmd/router's test allows.
func TestPackageTable(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "../cmd/router/deps_test.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"cmd/router": ""}
	ast.Inspect(file, func(n ast.Node) bool {
		v, ok := n.(*ast.ValueSpec)
		if !ok || v.Names[0].Name != "allowed" {
			return true
		}
		for _, e := range v.Values[0].(*ast.CompositeLit).Elts {
			kv := e.(*ast.KeyValueExpr)
			var may []string
			for _, name := range kv.Value.(*ast.CompositeLit).Elts {
				may = append(may, packageName(name))
			}
			want[packageName(kv.Key)] = strings.Join(may, " ")
		}
		return false
	})
	got := map[string]string{}
	for _, row := range load(t, "architecture.md").tableUnder(t, "Packages").rows {
		got[code(row[0])[0]] = strings.Join(code(row[2]), " ")
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-deps_test.go +architecture.md):\n%s", diff)
	}
}

func packageName(e ast.Expr) string {
	return strings.TrimPrefix(strings.Trim(e.(*ast.BasicLit).Value, `"`), "pkg/")
}
