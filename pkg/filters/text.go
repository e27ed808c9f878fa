package filters

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"text/template"
	"text/template/parse"
)

// Text is a compiled text with places that are filled from an event: a URL, the value of a header. What holds no {{ stands for itself, so that
// tokens and addresses need no quotes; else it is a Go template. It is not for concurrent use.
type Text struct {
	literal  string
	template *goTemplate
}

// ErrNoValue is wrapped by the error of a [Text] that names a field which the event does not have.
var ErrNoValue = errors.New("the event has no value for it")

// The functions that take the value of each place. No template can name them: they are not there while it is parsed.
const (
	escapeName = "_escape"
	placeName  = "_place" // for what the template has escaped itself
)

// CompileText parses src; an error is a [*SyntaxError]. escape, if not nil, is applied to every value that an event puts into the text, and to
// nothing else. What the template itself escapes, by urlquery at the end of a pipe, is not escaped twice.
func CompileText(src string, o Options, escape func(string) string) (*Text, error) {
	if o.Limit <= 0 {
		o.Limit = DefaultLimit
	}
	if len(src) > maxSourceBytes {
		return nil, tooLong(src)
	}
	if !strings.Contains(src, "{{") {
		return &Text{literal: src}, nil
	}
	t, err := compileGo(src, o)
	if err != nil {
		return nil, err
	}
	if escape == nil {
		escape = func(text string) string { return text }
	}
	t.tmpl.Funcs(template.FuncMap{
		escapeName: func(name string, v any) (string, error) { return place(name, v, escape) },
		placeName: func(name string, v any) (string, error) {
			return place(name, v, func(text string) string { return text })
		},
	})
	for _, d := range t.tmpl.Templates() {
		if d.Tree != nil && d.Root != nil {
			addPlaces(d.Root)
		}
	}
	return &Text{template: t}, nil
}

// Constant says that no event changes the text.
func (t *Text) Constant() bool { return t.template == nil }

// Eval fills in what the event has. A field that it does not have is an error, which wraps [ErrNoValue]: an address with a hole in it is another address.
// `{{or .plan "none"}}` says what stands there instead.
func (t *Text) Eval(view *View) (string, error) {
	if t.template == nil {
		return t.literal, nil
	}
	text, _, err := t.template.evalEvent(view.event)
	if errors.Is(err, errTime) { // of a busy machine; see Value
		t.template.limit *= patience
		text, _, err = t.template.evalEvent(view.event)
		t.template.limit /= patience
	}
	var failed *placeError
	if errors.As(err, &failed) {
		return "", failed
	}
	return text, templateError(err)
}

// placeError says what is wrong with the value of one place.
type placeError struct {
	name string // what stands between the braces
	err  error
}

func (e *placeError) Error() string { return fmt.Sprintf("{{%s}}: %v", e.name, e.err) }
func (e *placeError) Unwrap() error { return e.err }

// place is what a value leaves in the text.
func place(name string, v any, escape func(string) string) (string, error) {
	switch rv := reflect.ValueOf(v); {
	case !rv.IsValid(), v == noValue:
		return "", &placeError{name, ErrNoValue}
	case rv.Kind() == reflect.Map, rv.Kind() == reflect.Slice:
		return "", &placeError{name, errors.New("it is an object or a list; name what of it is meant")}
	}
	return bound(escape(fmt.Sprint(v)))
}

// addPlaces puts a function behind each pipe that prints.
func addPlaces(list *parse.ListNode) {
	if list == nil {
		return
	}
	branch := func(b *parse.BranchNode) {
		addPlaces(b.List)
		addPlaces(b.ElseList)
	}
	for _, n := range list.Nodes {
		switch n := n.(type) {
		case *parse.ActionNode:
			addPlace(n.Pipe)
		case *parse.IfNode:
			branch(&n.BranchNode)
		case *parse.WithNode:
			branch(&n.BranchNode)
		case *parse.RangeNode:
			branch(&n.BranchNode)
		}
	}
}

func addPlace(pipe *parse.PipeNode) {
	if len(pipe.Decl) > 0 { // prints nothing
		return
	}
	name := escapeName
	switch f := lastFunction(pipe); f {
	case tickName:
		return
	case "urlquery":
		name = placeName
	}
	text := pipe.String()
	pipe.Cmds = append(pipe.Cmds, &parse.CommandNode{NodeType: parse.NodeCommand, Pos: pipe.Pos, Args: []parse.Node{
		parse.NewIdentifier(name).SetPos(pipe.Pos),
		&parse.StringNode{NodeType: parse.NodeString, Pos: pipe.Pos, Quoted: fmt.Sprintf("%q", text), Text: text},
	}})
}

// lastFunction is the function that makes what the pipe prints, "" when it is none.
func lastFunction(pipe *parse.PipeNode) string {
	if id, ok := pipe.Cmds[len(pipe.Cmds)-1].Args[0].(*parse.IdentifierNode); ok {
		return id.Ident
	}
	return ""
}
