package filters

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"sort"
	"strings"
	"text/template"
	"text/template/parse"
	"time"

	"github.com/tidwall/gjson"

	"eventrouter/pkg/event"
)

const (
	// goName is what positions in run-time errors begin with.
	goName = "table_name_template"
	// maxOutputBytes bounds a text that a template makes, on the way and at the end.
	maxOutputBytes = 1 << 20
)

// goTemplate is a template in Go's text/template language.
type goTemplate struct {
	tmpl  *template.Template
	limit time.Duration
	// needs are the fields of the event that the template names; whole is true when it can reach all of them, as `json .` can.
	needs map[string]bool
	whole bool
	reads []string     // needs, in some order
	names *event.Names // reads, and _timestamp; nil: whole
	// deep are the names of members that the template looks into. A null under one of them is left out, so that looking into it prints
	// <no value>, as for a missing one; text/template would fail.
	deep map[string]bool
	// timestamp is true when the template mentions _timestamp, which makes the field mandatory and a [time.Time].
	timestamp bool
	direct    *goDirect // the template without text/template; nil: it does more than that can

	deadline time.Time // of the evaluation in hand
	lookup   event.Lookup
	out      boundedBuffer
}

func compileGo(src string, o Options) (*goTemplate, error) {
	t := &goTemplate{limit: o.Limit, needs: map[string]bool{}, deep: map[string]bool{}, timestamp: strings.Contains(src, event.FieldTimestamp)}
	tmpl, err := template.New(goName).Funcs(t.funcs()).Parse(src)
	if err != nil {
		return nil, goSyntaxError(src, err)
	}
	t.tmpl = tmpl
	if len(tmpl.Templates()) == 1 && tmpl.Tree != nil && !t.timestamp {
		t.direct = compileGoDirect(tmpl.Root)
	}
	for _, d := range tmpl.Templates() {
		if d.Tree == nil || d.Root == nil {
			continue
		}
		t.survey(d.Root, d == tmpl)
		if d != tmpl {
			d.Root.Nodes = slices.Insert(d.Root.Nodes, 0, t.tick())
		}
	}
	t.reads = slices.DeleteFunc(slices.Sorted(maps.Keys(t.needs)), func(name string) bool { return name == event.FieldTimestamp && t.timestamp })
	if !t.whole && len(t.reads) <= maxReads {
		t.names = event.NewNames(append(slices.Clone(t.reads), event.FieldTimestamp)...)
	}
	return t, nil
}

func (t *goTemplate) eval(view string) (string, bool, error) {
	fields := make(map[string]any, len(t.needs))
	gjson.Parse(view).ForEach(func(k, v gjson.Result) bool {
		if t.whole || t.needs[k.Str] {
			t.put(fields, k.Str, v)
		}
		return t.whole || len(fields) < len(t.needs)
	})
	return t.execute(fields, gjson.Get(view, event.FieldTimestamp))
}

func (t *goTemplate) evalEvent(ev *event.Event) (string, bool, error) {
	if t.names == nil {
		return t.eval(string(ev.AppendView(nil)))
	}
	t.lookup.Reset(ev, t.names)
	fields := make(map[string]any, len(t.reads))
	for i, name := range t.reads {
		if raw := t.lookup.Get(i); raw != "" {
			t.put(fields, name, gjson.Parse(raw))
		}
	}
	var timestamp gjson.Result
	if t.timestamp {
		timestamp = gjson.Parse(t.lookup.Get(len(t.reads)))
	}
	return t.execute(fields, timestamp)
}

// execute runs the template on its dot.
func (t *goTemplate) execute(fields map[string]any, timestamp gjson.Result) (string, bool, error) {
	if t.timestamp {
		at, err := time.Parse(time.RFC3339Nano, timestamp.Str)
		if err != nil {
			return "", false, errors.New("the template uses _timestamp, and the event's is missing or no time")
		}
		fields[event.FieldTimestamp] = at
	}
	t.deadline = time.Now().Add(t.limit)
	t.out.b = t.out.b[:0]
	if err := t.tmpl.Execute(&t.out, fields); err != nil {
		return "", false, err
	}
	return string(t.out.b), true, nil
}

func (t *goTemplate) put(m map[string]any, key string, v gjson.Result) {
	if v.Type != gjson.Null || !t.deep[key] {
		m[key] = t.value(v)
	}
}

// value converts JSON to what encoding/json would make of it with UseNumber: numbers print as the client wrote them.
func (t *goTemplate) value(v gjson.Result) any {
	switch {
	case v.IsObject():
		m := map[string]any{}
		v.ForEach(func(k, v gjson.Result) bool {
			t.put(m, k.Str, v)
			return true
		})
		return m
	case v.IsArray():
		a := []any{}
		v.ForEach(func(_, v gjson.Result) bool {
			a = append(a, t.value(v))
			return true
		})
		return a
	case v.Type == gjson.Number:
		return json.Number(v.Raw)
	default:
		return v.Value() // string, bool or nil
	}
}

// survey notes which fields of the event the nodes name and makes every loop look at the clock. root is true where dot
// is the event itself. What a range or with over a field does with its own dot needs no more than that field.
func (t *goTemplate) survey(n parse.Node, root bool) {
	switch n := n.(type) {
	case *parse.ListNode:
		if n == nil {
			return
		}
		for _, c := range n.Nodes {
			t.survey(c, root)
		}
	case *parse.ActionNode:
		t.survey(n.Pipe, root)
	case *parse.PipeNode:
		if n == nil {
			return
		}
		for _, c := range n.Cmds {
			for _, a := range c.Args {
				t.survey(a, root)
			}
		}
	case *parse.IfNode:
		t.surveyBranch(&n.BranchNode, root, root)
	case *parse.WithNode:
		t.surveyBranch(&n.BranchNode, root, false)
	case *parse.RangeNode:
		t.surveyBranch(&n.BranchNode, root, false)
		n.List.Nodes = slices.Insert(n.List.Nodes, 0, t.tick())
	case *parse.TemplateNode:
		t.survey(n.Pipe, root)
	case *parse.ChainNode:
		t.surveyPath(n.Field)
		t.survey(n.Node, root)
	case *parse.FieldNode:
		t.surveyPath(n.Ident)
		if root {
			t.needs[n.Ident[0]] = true
		}
	case *parse.VariableNode:
		t.surveyPath(n.Ident[1:])
		if n.Ident[0] == "$" && len(n.Ident) == 1 {
			t.whole = true
		} else if n.Ident[0] == "$" {
			t.needs[n.Ident[1]] = true
		}
	case *parse.DotNode:
		t.whole = t.whole || root
	}
}

func (t *goTemplate) surveyPath(names []string) {
	for i := range len(names) - 1 {
		t.deep[names[i]] = true
	}
}

func (t *goTemplate) surveyBranch(b *parse.BranchNode, root, inner bool) {
	t.survey(b.Pipe, root)
	t.survey(b.List, inner)
	t.survey(b.ElseList, root)
}

// tick returns a node that prints nothing and fails when the time is up. text/template can not be interrupted, and
// `{{range 1000000000}}` is all it takes to keep it busy.
func (t *goTemplate) tick() parse.Node {
	trees, err := parse.Parse("clock", "{{"+tickName+"}}", "", "", map[string]any{tickName: t.checkTime})
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return trees["clock"].Root.Nodes[0]
}

const tickName = "_tick"

func (t *goTemplate) checkTime() (string, error) {
	if time.Now().After(t.deadline) {
		return "", errTime
	}
	return "", nil
}

// boundedBuffer takes what a template prints, up to maxOutputBytes.
type boundedBuffer struct{ b []byte }

func (w *boundedBuffer) Write(p []byte) (int, error) {
	if len(w.b)+len(p) > maxOutputBytes {
		return 0, errTooLong
	}
	w.b = append(w.b, p...)
	return len(p), nil
}

var errTooLong = fmt.Errorf("%w: a text of more than %d bytes", ErrLimit, maxOutputBytes)

var (
	goError   = regexp.MustCompile(`(?s)^template: ` + goName + `:(\d+): (.*)$`)
	undefined = regexp.MustCompile(`^function "(.+)" not defined$`)
	blockWord = regexp.MustCompile(`\{\{-?\s*(if|range|with|define|block|end)\b`)
)

// goSyntaxError adds to a parser's error what it does not say: the column, and what to do.
func goSyntaxError(src string, err error) *SyntaxError {
	line, what := 1, err.Error()
	if m := goError.FindStringSubmatch(what); m != nil {
		_, _ = fmt.Sscan(m[1], &line)
		what = m[2]
	}
	offset, fix := goErrorOffset(src, err, line), ""
	switch m := undefined.FindStringSubmatch(what); {
	case m != nil:
		offset = strings.LastIndex(src[:offset], m[1])
		fix = "a field begins with a dot, as in {{." + m[1] + "}}; the functions are " + functionNames
	case strings.HasPrefix(what, "unclosed action"):
		offset, fix = strings.LastIndex(src, "{{"), "end the action with }}"
	case what == "unexpected EOF":
		offset, fix = unclosedBlock(src), "this block needs an {{end}}"
	case strings.HasPrefix(what, "unexpected {{"):
		offset = strings.LastIndex(src[:offset], "{{")
	default:
		offset--
	}
	if _, err := parseScript(src); err == nil && !strings.HasPrefix(strings.TrimSpace(src), "{{") {
		fix = "{{ always begins a Go template; if this is JavaScript, put a space between the braces"
	}
	return errorAt(src, offset, lowerFirst(what), fix)
}

// goErrorOffset returns where on the line the parser found the error: the end of the shortest beginning of src that
// has the same one.
func goErrorOffset(src string, err error, line int) int {
	start := offsetOf(src, line, 1)
	end := len(src)
	if n := strings.IndexByte(src[start:], '\n'); n >= 0 {
		end = start + n
	}
	t := &goTemplate{}
	// Once the error is in, whatever follows leaves it as it is.
	return start + sort.Search(end-start, func(n int) bool {
		_, err1 := template.New(goName).Funcs(t.funcs()).Parse(src[:start+n])
		return err1 != nil && err1.Error() == err.Error()
	})
}

// unclosedBlock returns the offset of the innermost block that has no {{end}}.
func unclosedBlock(src string) int {
	var open []int
	for _, m := range blockWord.FindAllStringSubmatchIndex(src, -1) {
		if src[m[2]:m[3]] != "end" {
			open = append(open, m[0])
		} else if len(open) > 0 {
			open = open[:len(open)-1]
		}
	}
	if len(open) == 0 {
		return len(src)
	}
	return open[len(open)-1]
}
