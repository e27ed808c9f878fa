package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"

	"eventrouter/pkg/testcase"
)

type testCmd struct {
	configFlag
	Schema string            `placeholder:"DIR" help:"Folder of account schemas, from router schema pull. Default: schemas beside the configuration."`
	Update bool              `help:"Rewrite what the cases expect to what comes out. Also -update."`
	Env    map[string]string `placeholder:"NAME=VALUE" mapsep:"none" help:"A variable of the configuration; may be given several times. Those of the process are not used."`
	Cases  []string          `arg:"" name:"file" help:"Cases, and folders of them: all *.txtar in and below."`
}

// Help is shown by router test --help.
func (testCmd) Help() string {
	return `Plays the events of each case through the configuration, without a network, and compares what each destination would make of them with what the case
expects. No secrets are needed. Exit status: 0 all cases are as expected, 1 some are not, 2 a file is wrong.`
}

// casesError is that some cases failed; what is wrong has been told.
type casesError struct{ failed, all int }

func (e casesError) Error() string {
	return fmt.Sprintf("%d of %s failed; where what came out is right, run router test --update and look at the changes", e.failed, count(e.all, "case"))
}

// Run implements the command.
func (c *testCmd) Run(ctx context.Context, s streams) error {
	paths, err := caseFiles(c.Cases)
	if err != nil {
		return usageError{err}
	}
	results := make([]*caseResult, len(paths))
	var running sync.WaitGroup
	room := make(chan struct{}, runtime.GOMAXPROCS(0))
	for i, path := range paths {
		room <- struct{}{}
		running.Go(func() {
			defer func() { <-room }()
			results[i] = c.run(ctx, path)
		})
	}
	running.Wait()
	if err := ctx.Err(); err != nil {
		return err
	}
	return c.tell(s, results)
}

// tell writes a line for each case, and below it what is wrong.
func (c *testCmd) tell(s streams, results []*caseResult) error {
	failed, bad := 0, 0
	var madeUp []string
	said := ""
	for _, r := range results {
		switch {
		case r.err != nil && r.err.Error() == said: // mostly of the configuration that they share
			bad++
			fmt.Fprintf(s.out, "FAIL  %s\n%s", r.path, indented("for the same reason"))
		case r.err != nil:
			bad++
			said = r.err.Error()
			fmt.Fprintf(s.out, "FAIL  %s\n%s", r.path, indented(r.err.Error()))
		case len(r.failures) > 0:
			failed++
			fmt.Fprintf(s.out, "FAIL  %s\n", r.path)
			for _, failure := range r.failures {
				fmt.Fprint(s.out, indented(failure))
			}
		case r.updated:
			fmt.Fprintf(s.out, "ok    %s (updated)\n", r.path)
		default:
			fmt.Fprintf(s.out, "ok    %s\n", r.path)
		}
		madeUp = append(madeUp, r.madeUp...)
	}
	if slices.Sort(madeUp); len(madeUp) > 0 {
		fmt.Fprintf(s.out, "Made-up values stand for %s. Where a value matters, give it with --env NAME=VALUE, or in a section env of a case.\n",
			strings.Join(slices.Compact(madeUp), ", "))
	}
	switch {
	case bad > 0:
		return usageError{fmt.Errorf("%d of %s could not be run", bad, count(len(results), "case"))}
	case failed > 0:
		return casesError{failed, len(results)}
	}
	return nil
}

func indented(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString("      " + strings.TrimSuffix(line, "\n"))
		b.WriteByte('\n')
	}
	return b.String()
}

// caseFiles are the files that args name, each once; of folders those whose name ends in .txtar.
func caseFiles(args []string) ([]string, error) {
	var paths []string
	for _, arg := range args {
		info, err := os.Stat(arg)
		if err != nil {
			return nil, err
		}
		if !info.IsDir() {
			paths = append(paths, filepath.Clean(arg))
			continue
		}
		n := len(paths)
		err = filepath.WalkDir(arg, func(path string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() && filepath.Ext(path) == ".txtar" {
				paths = append(paths, path)
			}
			return err
		})
		if err != nil {
			return nil, err
		}
		if len(paths) == n {
			return nil, fmt.Errorf("%s: there is no case, a file whose name ends in .txtar, in this folder", arg)
		}
	}
	seen := map[string]bool{}
	return slices.DeleteFunc(paths, func(path string) bool {
		twice := seen[path]
		seen[path] = true
		return twice
	}), nil
}

// caseResult is what became of one case.
type caseResult struct {
	path     string
	err      error    // it could not be run
	failures []string // what is not as expected, for people
	updated  bool     // the file was rewritten
	madeUp   []string // variables for which values were made up
}

// run runs one case. A panic is a fault of this program, and concerns this case alone.
func (c *testCmd) run(ctx context.Context, path string) (r *caseResult) {
	r = &caseResult{path: path}
	defer func() {
		if p := recover(); p != nil {
			r.err = fmt.Errorf("BUG: the program panics: %v", p)
		}
	}()
	data, err := os.ReadFile(path)
	if err != nil {
		r.err = err
		return r
	}
	parsed, err := testcase.Parse(path, data)
	if err != nil {
		r.err = err
		return r
	}
	rig, err := newCaseRig(ctx, c, parsed)
	r.madeUp = rig.madeUpNames()
	if err != nil {
		r.err = err
		return r
	}
	got, err := rig.play(ctx)
	if err != nil {
		r.err = err
		return r
	}
	if c.Update {
		r.updated, r.err = rewrite(path, data, parsed.Updated(got))
		return r
	}
	r.failures = compare(parsed, got, rig)
	return r
}

// compare returns what differs.
func compare(c *testcase.Case, got []testcase.Expected, rig *caseRig) (failures []string) {
	known := map[string]bool{}
	for _, e := range got {
		known[e.Destination] = true
		want, line, ok := c.Want(e.Destination)
		if !ok {
			failures = append(failures, fmt.Sprintf("expects nothing of destination %s: run router test --update to fill in the section want/%s.txt, and read it, "+
				"or name the destinations that the case is about in a section destinations\n", e.Destination, e.Destination))
			continue
		}
		if diff := testcase.Diff(want, e.Text); diff != "" {
			failures = append(failures, rig.secrets.text(fmt.Sprintf("%s:%d: want/%s.txt\n%s%s%s",
				c.Path, line, e.Destination, eventsIn(c, diff), diff, rig.printed(e.Destination))))
		}
	}
	for _, name := range c.Wanted() {
		if !known[name] {
			failures = append(failures, fmt.Sprintf("section want/%s.txt is about no destination of this case; router test --update takes it out\n", name))
		}
	}
	return failures
}

var eventNumber = regexp.MustCompile(`(?m)^(?:@@ .* @@ |[-+])event (\d+):`)

// eventsIn shows the events that led to a diff.
func eventsIn(c *testcase.Case, diff string) string {
	const most = 300 // of an event; the rest is in the file
	var b strings.Builder
	shown := map[int]bool{}
	for _, m := range eventNumber.FindAllStringSubmatch(diff, -1) {
		n, err := strconv.Atoi(m[1])
		if err != nil || n < 1 || n > len(c.Events) || shown[n] {
			continue
		}
		shown[n] = true
		ev := &c.Events[n-1]
		text := line(string(ev.JSON))
		if len(text) > most {
			text = strings.ToValidUTF8(text[:most], "") + "…"
		}
		fmt.Fprintf(&b, "%s:%d: event %d: %s\n", c.Path, ev.Line, n, text)
	}
	return b.String()
}

// rewrite puts a new text in the place of a file, whole or not at all. Of a link the file behind it is rewritten.
func rewrite(path string, old, text []byte) (changed bool, err error) {
	if bytes.Equal(old, text) {
		return false, nil
	}
	if path, err = filepath.EvalSymlinks(path); err != nil {
		return false, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return false, err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".router-test-*")
	if err != nil {
		return false, err
	}
	defer os.Remove(f.Name()) // nothing, once it is renamed
	_, err = f.Write(text)
	err = errors.Join(err, f.Chmod(info.Mode().Perm()), f.Sync(), f.Close())
	if err != nil {
		return false, err
	}
	return true, os.Rename(f.Name(), path)
}

// madeUpNames are the variables for which values were made up.
func (r *caseRig) madeUpNames() []string {
	if r == nil {
		return nil
	}
	return slices.Collect(maps.Keys(r.madeUp))
}
