package filters

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/dop251/goja"
	"github.com/dop251/goja/ast"
	"github.com/dop251/goja/file"
	"github.com/dop251/goja/parser"
	"github.com/dop251/goja/token"
	"github.com/dop251/goja/unistring"

	"eventrouter/pkg/event"
)

// A script runs inside a function of its own, so that `return` and `await` work and the names of the outer function can be declared again:
//
//	($, _, event, «…») => (async () => (        ($, _, event, «…») => (async () => {
//	$.event_type                           or   if (…) { return $.event_type }
//	))()                                        })()
//
// The opening takes one whole line, so positions in the script are those of the user, one line down.
const (
	opening         = "($, _, event, " + grown + ", " + copied + ", " + merged + ", $kv) => (async () => "
	openExpression  = opening + "(\n"
	closeExpression = "\n))()"
	openBody        = opening + "{\n"
	closeBody       = "\n})()"
)

// grown is the function that looks at every string that a loop makes; see boundStrings. No script can name it, since it is not among the
// names that scripts may use.
const grown = "$__grown"

// scriptName is what stack frames of the user's script carry.
const scriptName = "script"

// dialect is what scripts of one kind have that others have not.
type dialect struct {
	name   string          // of the script in errors, before the line; ""
	names  map[string]bool // beside builtins
	events bool            // the result is one event or several: copies of the event are made lazily, and JSON is as JSON.stringify has it
}

// parsed is a script's syntax tree. function is the user's part of program.
type parsed struct {
	program  *ast.Program
	function *ast.ArrowFunctionLiteral
}

// parseScript reads src as one expression or, failing that, as the body of a function.
func parseScript(src string) (parsed, *SyntaxError) {
	p, exprErr := parseWrapped(src, openExpression, closeExpression)
	if exprErr == nil {
		return p, nil
	}
	p, bodyErr := parseWrapped(src, openBody, closeBody)
	if bodyErr == nil {
		return p, nil
	}
	// The reading that came further is the one that was meant.
	if exprErr.Line > bodyErr.Line || exprErr.Line == bodyErr.Line && exprErr.Column > bodyErr.Column {
		bodyErr = exprErr
	}
	return parsed{}, bodyErr
}

func parseWrapped(src, open, end string) (parsed, *SyntaxError) {
	// Without the option the parser would load a source map from the path that a comment in the script names.
	program, err := parser.ParseFile(nil, scriptName, open+src+end, 0, parser.WithDisableSourceMaps)
	if err != nil {
		return parsed{}, parseError(src, err)
	}
	if f := userFunction(program, len(open)-len("(\n")); f != nil {
		return parsed{program, f}, nil
	}
	return parsed{}, errorAt(src, strings.IndexAny(src, ")}"), "a closing bracket has no opening one", "")
}

// userFunction returns the function that stands for the script, and nil when src closed it early.
func userFunction(program *ast.Program, bodyAt int) *ast.ArrowFunctionLiteral {
	if len(program.Body) != 1 {
		return nil
	}
	only, _ := program.Body[0].(*ast.ExpressionStatement)
	if only == nil {
		return nil
	}
	outer, _ := only.Expression.(*ast.ArrowFunctionLiteral)
	if outer == nil {
		return nil
	}
	body, _ := outer.Body.(*ast.ExpressionBody)
	if body == nil {
		return nil
	}
	call, _ := body.Expression.(*ast.CallExpression)
	if call == nil {
		return nil
	}
	f, _ := call.Callee.(*ast.ArrowFunctionLiteral)
	if f == nil || len(call.ArgumentList) > 0 || int(f.Body.Idx0()) < bodyAt {
		return nil
	}
	return f
}

func parseError(src string, err error) *SyntaxError {
	var list parser.ErrorList
	if !errors.As(err, &list) || len(list) == 0 {
		return errorAt(src, 0, lowerFirst(err.Error()), "")
	}
	first := list[0]
	offset := offsetOf(src, first.Position.Line-1, first.Position.Column)
	what, fix := lowerFirst(strings.TrimPrefix(first.Message, "SyntaxError: ")), ""
	if offset >= len(strings.TrimRight(src, " \t\r\n")) {
		offset, what = len(src), "unexpected end of the script"
	}
	if what == "unexpected token ILLEGAL" {
		what = "an unexpected character, or a string without its end"
	}
	switch rest := src[offset:]; {
	case isNameLike(src):
		fix = constantFix
	case strings.HasPrefix(rest, "import") || strings.HasPrefix(rest, "export"):
		fix = "scripts have no modules"
	}
	return errorAt(src, offset, what, fix)
}

const constantFix = "a constant table name begins with a letter and holds letters, digits, _ and dots, or stands in double quotes"

var (
	words     = regexp.MustCompile(`^[\pL\pN_ -]+$`)
	statement = regexp.MustCompile(`^(return|throw|await|typeof|void|delete|new|let|const|var) `)
)

// isNameLike tells whether somebody may have meant src as a table name.
func isNameLike(src string) bool { return words.MatchString(src) && !statement.MatchString(src) }

// compileScript checks src and makes its engine.
func compileScript(src string, o Options, d dialect) (s *script, warnings []string, err error) {
	defer func() {
		if x := recover(); x != nil { // the engine's parser and compiler, on a script they were not ready for
			s, err = nil, &SyntaxError{Line: 1, Column: 1, What: fmt.Sprintf("the script can not be compiled: %v", x)}
		}
	}()
	limitRegexps() // those in the script as well, so before it is compiled
	p, syntaxErr := parseScript(src)
	if syntaxErr != nil {
		return nil, nil, syntaxErr
	}
	found, syntaxErr := resolve(src, p.function, d)
	if syntaxErr != nil {
		return nil, nil, syntaxErr
	}
	warnings = completeBody(p.function)
	path := fieldPath(p.function)
	reads, allNamed := eventReads(p.function)
	timestamp := !d.events && strings.Contains(src, event.FieldTimestamp)
	var direct *jsDirect
	if !found.awaits && !d.events {
		direct = compileDirect(p.function, o, timestamp)
	}
	p.function.Async = found.awaits // without one, no promise is needed, which is faster
	if d.events {
		path = nil
		if syntaxErr := notCalled(src, p.function); syntaxErr != nil {
			return nil, nil, syntaxErr
		}
		warnings = append(warnings, assignmentWarning(p.function)...)
		warnings = append(warnings, unawaitedWarning(src, p.function)...)
		copyLazily(p.function)
	}
	boundStrings(p.function)
	program, err := goja.CompileAST(p.program, false)
	if err != nil {
		return nil, nil, compileError(src, err)
	}
	s = &script{
		program: program, options: o, dialect: d, uses: found.uses, path: path, direct: direct, timestamp: timestamp, lenient: d.events,
	}
	if allNamed && !d.events {
		s.readsTime = slices.Contains(reads, event.FieldTimestamp)
		s.reads = slices.DeleteFunc(reads, func(name string) bool { return name == event.FieldTimestamp })
		s.names = event.NewNames(append(slices.Clone(s.reads), event.FieldTimestamp)...)
	}
	if len(path) > 0 || direct != nil {
		return s, warnings, nil // mostly nobody needs its engine
	}
	if err := s.start(); err != nil {
		return nil, nil, compileError(src, err)
	}
	return s, warnings, nil
}

// notCalled refuses a script that is a function: its result would be that function.
func notCalled(src string, f *ast.ArrowFunctionLiteral) *SyntaxError {
	body, ok := f.Body.(*ast.ExpressionBody)
	if !ok {
		return nil
	}
	switch e := body.Expression.(type) {
	case *ast.FunctionLiteral, *ast.ArrowFunctionLiteral:
		return errorAt(src, offsetInScript(src, e.Idx0()), "the script is a function, which nobody calls", "write only what stands inside it; the event is $")
	}
	return nil
}

// assignmentWarning is for a script that changes the event and does not return it.
func assignmentWarning(f *ast.ArrowFunctionLiteral) []string {
	body, ok := f.Body.(*ast.ExpressionBody)
	if !ok {
		return nil
	}
	switch e := body.Expression.(type) {
	case *ast.AssignExpression:
	case *ast.UnaryExpression:
		if e.Operator != token.DELETE && e.Operator != token.INCREMENT && e.Operator != token.DECREMENT {
			return nil
		}
	default:
		return nil
	}
	return []string{"the script has no return: its result is what it assigns or deletes, not the event; write return $ behind it"}
}

// resolve checks the names that the script uses and finds out which of the dialect's they are, and whether it awaits anything.
func resolve(src string, f *ast.ArrowFunctionLiteral, d dialect) (found resolver, _ *SyntaxError) {
	r := resolver{names: d.names, uses: map[string]bool{}}
	r.arrow(f, &scope{names: map[unistring.String]bool{"$": true, "_": true, "event": true}})
	if r.finding == nil {
		return r, nil
	}
	what, fix := r.finding.what, r.finding.fix
	if isNameLike(src) {
		fix = constantFix
	}
	return r, errorAt(src, offsetInScript(src, r.finding.at), what, fix)
}

func offsetInScript(src string, at file.Idx) int {
	// Both openings are equally long, and positions begin at 1.
	return min(max(int(at)-1-len(openBody), 0), len(src))
}

// completeBody makes the first expression of a body without any return its result, as Jitsu does, and says what that means.
func completeBody(f *ast.ArrowFunctionLiteral) []string {
	body, ok := f.Body.(*ast.BlockStatement)
	if !ok || contains(body.List, isReturn) {
		return nil
	}
	if len(body.List) == 0 {
		return []string{"the script is empty: every event is skipped"}
	}
	first, ok := body.List[0].(*ast.ExpressionStatement)
	if !ok {
		if contains(body.List, isThrow) {
			return nil
		}
		return []string{"the script has no return: every event is skipped"}
	}
	body.List[0] = &ast.ReturnStatement{Return: first.Idx0(), Argument: first.Expression}
	for _, rest := range body.List[1:] {
		if _, ok := rest.(*ast.EmptyStatement); !ok {
			return []string{"the script has no return: its first expression is the result, and what follows never runs"}
		}
	}
	return nil
}

func isReturn(n ast.Node) bool { _, ok := n.(*ast.ReturnStatement); return ok }
func isThrow(n ast.Node) bool  { _, ok := n.(*ast.ThrowStatement); return ok }

// contains tells whether one of the statements, outside of functions inside them, is what is asked for.
func contains[N ast.Node](nodes []N, is func(ast.Node) bool) bool {
	for _, n := range nodes {
		switch ast.Node(n).(type) {
		case *ast.FunctionLiteral, *ast.ArrowFunctionLiteral, *ast.ClassLiteral:
			continue
		}
		if is(n) || contains(children(n), is) {
			return true
		}
	}
	return false
}

func compileError(src string, err error) *SyntaxError {
	var e *goja.CompilerSyntaxError
	if !errors.As(err, &e) || e.File == nil {
		return errorAt(src, 0, lowerFirst(err.Error()), "")
	}
	return errorAt(src, offsetInScript(src, file.Idx(e.Offset+1)), lowerFirst(e.Message), "")
}
