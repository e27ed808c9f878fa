package docs

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/tidwall/gjson"
	"github.com/tidwall/sjson"

	"eventrouter/pkg/testcase"
)

var update = flag.Bool("update", false, "rewrite what recipes.md repeats of the cases in recipes/")

var (
	recipeLink = regexp.MustCompile(`\]\((recipes/[a-z-]+\.txtar)\)`)
	yamlBlock  = regexp.MustCompile("(?s)```yaml\n.*?```\n")
	eventTable = regexp.MustCompile(`(?m)^\| event \| comes to \|\n\|---\|---\|\n(?:\|.*\n)*`)
)

// TestRecipes: what recipes.md shows of each recipe is that of its cases: the configuration, the events, and what they come to.
func TestRecipes(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("recipes.md")
	if err != nil {
		t.Fatal(err)
	}
	sections := strings.SplitAfter(string(data), "\n### ")
	linked := map[string]bool{}
	for i, section := range sections[1:] {
		title, _, _ := strings.Cut(section, "\n")
		var cases []*testcase.Case
		for _, m := range recipeLink.FindAllStringSubmatch(section, -1) {
			linked[m[1]] = true
			cases = append(cases, recipeCase(t, m[1]))
		}
		blocks := 0
		section = yamlBlock.ReplaceAllStringFunc(section, func(string) string {
			if blocks++; blocks > len(cases) {
				t.Fatalf("recipe %q has more configurations than cases", title)
			}
			return "```yaml\n" + string(cases[blocks-1].Config.Text) + "```\n"
		})
		if blocks != len(cases) || blocks == 0 {
			t.Fatalf("recipe %q has %d configurations and %d cases", title, blocks, len(cases))
		}
		rows := recipeTable(t, cases[0])
		for _, c := range cases {
			if first, _, _ := strings.Cut(c.Comment, "\n"); first != title {
				t.Errorf("%s begins with %q, the recipe is called %q", c.Path, first, title)
			}
			if diff := cmp.Diff(rows, recipeTable(t, c)); diff != "" {
				t.Errorf("recipe %q: its cases differ (-%s +%s):\n%s", title, cases[0].Path, c.Path, diff)
			}
		}
		if n := len(eventTable.FindAllString(section, -1)); n != 1 {
			t.Fatalf("recipe %q has %d tables of events", title, n)
		}
		sections[i+1] = eventTable.ReplaceAllLiteralString(section, rows)
	}
	if got := strings.Join(sections, ""); *update {
		if err := os.WriteFile("recipes.md", []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if diff := cmp.Diff(got, string(data)); diff != "" {
		t.Errorf("recipes.md does not show what its cases have (-cases +page); go test ./docs -run TestRecipes -update rewrites it:\n%s", diff)
	}
	files, err := filepath.Glob("recipes/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if !linked[file] {
			t.Errorf("recipes.md has no recipe of %s", file)
		}
	}
	if n := len(sections) - 1; n < 24 {
		t.Errorf("only %d recipes", n)
	}
}

// TestRecipesHold runs the cases as their readers do.
func TestRecipesHold(t *testing.T) {
	t.Parallel()
	dir := t.TempDir() // where no configuration is
	cases, err := filepath.Abs("recipes")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary(), "test", cases)
	cmd.Dir = dir
	var exit *exec.ExitError
	if out, err := cmd.CombinedOutput(); err != nil && !errors.As(err, &exit) || exit != nil {
		t.Errorf("router test: %v\n%s", err, out)
	}
}

func recipeCase(t *testing.T, path string) *testcase.Case {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	c, err := testcase.Parse(path, data)
	if err != nil {
		t.Fatal(err)
	}
	if c.Config == nil || len(c.Wanted()) == 0 {
		t.Fatalf("%s has no configuration, or expects nothing", path)
	}
	return c
}

// recipeTable shows the events of a case, and what it expects of them, in short.
func recipeTable(t *testing.T, c *testcase.Case) string {
	t.Helper()
	var b strings.Builder
	b.WriteString("| event | comes to |\n|---|---|\n")
	outcomes := make([][]string, len(c.Events))
	for _, name := range c.Wanted() {
		want, _, _ := c.Want(name)
		blocks := strings.Split("\n"+want, "\nevent ")[1:]
		if len(blocks) != len(c.Events) {
			t.Fatalf("%s: want/%s.txt tells of %d events, there are %d", c.Path, name, len(blocks), len(c.Events))
		}
		for i, block := range blocks {
			for _, text := range outcomesIn(t, block) {
				if len(c.Wanted()) > 1 {
					text = "`" + name + "`: " + text
				}
				outcomes[i] = append(outcomes[i], text)
			}
		}
	}
	before := ""
	for i := range c.Events {
		setting := eventSettings(c, i)
		row := "`" + string(c.Events[i].JSON) + "`"
		if setting != "" && setting != before {
			row = setting + ": " + row
		}
		before = setting
		fmt.Fprintf(&b, "| %s | %s |\n", strings.ReplaceAll(row, "|", `\|`), strings.ReplaceAll(strings.Join(outcomes[i], "<br>"), "|", `\|`))
	}
	return b.String()
}

// eventSettings says in words what a case says of an event beside its JSON.
func eventSettings(c *testcase.Case, i int) string {
	ev := &c.Events[i]
	var words []string
	add := func(ok bool, text string) {
		if ok {
			words = append(words, text)
		}
	}
	add(ev.Protocol != "", "by "+strings.ToUpper(ev.Protocol[:min(1, len(ev.Protocol))])+ev.Protocol[min(1, len(ev.Protocol)):]+"'s protocol")
	add(ev.APIKey != "", "with API key `"+ev.APIKey+"`")
	add(!ev.Server, "from a browser")
	add(ev.UserAgent != "", "`"+regexp.MustCompile(`^.*(Googlebot/[\d.]+|Chrome/\d+).*$`).ReplaceAllString(ev.UserAgent, "$1")+"`")
	add(ev.IP != "", "from `"+ev.IP+"`")
	if i > 0 {
		if later := ev.At.Sub(c.Events[i-1].At); later.Hours() >= 24 {
			words = append(words, fmt.Sprintf("%.0f days later", later.Hours()/24))
		}
	}
	return strings.Join(words, ", ")
}

var (
	requestStart = regexp.MustCompile(`(?m)^  (POST|PUT|PATCH|GET|DELETE) (\S+).*\n`)
	accountEvent = regexp.MustCompile(`^pe\d+_`)
)

// outcomesIn is what the text of one event tells, in short: what is sent, or why nothing is.
func outcomesIn(t *testing.T, block string) (all []string) {
	t.Helper()
	starts := requestStart.FindAllStringSubmatchIndex(block, -1)
	if len(starts) == 0 {
		for line := range strings.Lines(block[strings.Index(block, "\n")+1:]) {
			if line = strings.TrimSpace(line); line != "" {
				word, _, _ := strings.Cut(line, ":")
				if word == "skipped" {
					word = line
				}
				all = append(all, word)
			}
		}
		return all
	}
	var contacts, others []string
	for i, at := range starts {
		end := len(block)
		if i+1 < len(starts) {
			end = starts[i+1][0]
		}
		url, body := block[at[4]:at[5]], bodyIn(block[at[1]:end])
		inputs := gjson.Get(body, "inputs").Array()
		switch {
		case strings.HasSuffix(url, "/contacts/batch/upsert"):
			for _, in := range inputs {
				contacts = append(contacts, compact(t, in.Get("properties").Raw))
			}
		case strings.HasSuffix(url, "/events/v3/send/batch"):
			for _, in := range inputs {
				properties := in.Get("properties").Raw
				properties, _ = sjson.Delete(properties, "hs_user_agent") // too long for a table
				name := accountEvent.ReplaceAllString(in.Get("eventName").Str, "")
				others = append(others, fmt.Sprintf("event `%s` `%s`", name, compact(t, properties)))
			}
		case strings.Contains(url, "/event-definitions"):
		default:
			others = append(others, fmt.Sprintf("%s `%s` `%s`", block[at[2]:at[3]], url, compact(t, body)))
		}
	}
	for _, properties := range contacts {
		// One that holds the e-mail alone is only there for its event.
		if len(others) == 0 || len(gjson.Parse(properties).Map()) > 1 {
			all = append(all, "contact `"+properties+"`")
		}
	}
	return append(all, others...)
}

// bodyIn is the JSON of a request, behind its headers.
func bodyIn(text string) string {
	if i := slices.IndexFunc(strings.Split(text, "\n"), func(line string) bool { return line == "  {" || line == "  [" || line == "  [{" }); i >= 0 {
		return strings.Join(strings.Split(text, "\n")[i:], "\n")
	}
	return text
}

func compact(t *testing.T, text string) string {
	t.Helper()
	var b bytes.Buffer
	if err := json.Compact(&b, []byte(text)); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return b.String()
}
