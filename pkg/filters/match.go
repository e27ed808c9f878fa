package filters

import (
	"sync"

	"eventrouter/pkg/config"
	"eventrouter/pkg/event"
)

// Match is a compiled `filter` of a destination: conditions on an event's members, without code. It may be used from many goroutines.
type Match struct {
	names *event.Names // the members of the top level that conditions ask for
	all   condition
}

// CompileMatch checks the conditions. All that is wrong with them is returned at once, as a [config.Problems]. Nil: there are none.
func CompileMatch(s config.Settings) (*Match, error) {
	if s.Shape() == config.Nothing || s.Shape() == config.Map && len(s.Members()) == 0 {
		return nil, nil
	}
	c := matchCompiler{}
	all := c.all(s)
	if err := c.problems.Sorted().Err(); err != nil {
		return nil, err
	}
	return &Match{names: event.NewNames(c.names...), all: all}, nil
}

// Eval says whether ev meets the conditions; Why tells the first that it does not meet, without what the event has there. An error, which wraps [ErrLimit], says that a text
// is too long to be looked at.
func (m *Match) Eval(ev *event.Event) (Result, error) {
	j := judges.Get().(*judge)
	j.lookup.Reset(ev, m.names)
	failed := j.failing(&m.all)
	err := j.err
	j.err = nil
	j.lookup.Release()
	judges.Put(j)
	switch {
	case err != nil:
		return Result{}, err
	case failed != nil:
		return Result{Why: failed.why}, nil
	}
	return Result{Keep: true}, nil
}

var judges = sync.Pool{New: func() any { return new(judge) }}

// condition is one condition on an event, with those that it is made of.
type condition struct {
	op    operation
	parts []condition // of all, any and not, which has one

	member int       // of a test: the place of the top level's member among the names that are looked up
	below  []step    // where to go from there
	test   *criteria // what a value there must meet; nil: none, it must be there
	why    string    // what to say when it does not hold
}

type operation uint8

const (
	isTest operation = iota
	isAll
	isAny
	isNot
)

// judge evaluates conditions on one event.
type judge struct {
	lookup event.Lookup
	err    error // what kept a condition from being decided
}

// failing returns the first condition that does not hold, nil if c holds.
func (j *judge) failing(c *condition) *condition {
	switch c.op {
	case isAll:
		for i := range c.parts {
			if failed := j.failing(&c.parts[i]); failed != nil {
				return failed
			}
		}
		return nil
	case isAny:
		for i := range c.parts {
			if j.failing(&c.parts[i]) == nil {
				return nil
			}
		}
		return c
	case isNot:
		if j.failing(&c.parts[0]) == nil {
			return c
		}
		return nil
	}
	if !j.reaches(c, j.lookup.Get(c.member), c.below) {
		return c
	}
	return nil
}

// reaches says whether a value that the path leads to meets the test. Of a list, each element is looked at.
func (j *judge) reaches(c *condition, raw string, below []step) bool {
	if raw == "" || raw == "null" {
		return false
	}
	switch {
	case len(below) == 0 && c.test == nil:
		return true
	case raw[0] == '[':
		at := -1
		if len(below) > 0 {
			at = below[0].index
		}
		met := false
		event.Elements(raw, func(element string) bool {
			switch {
			case at < 0:
				met = j.reaches(c, element, below)
			case at == 0:
				met = j.reaches(c, element, below[1:])
				return false
			default:
				at--
			}
			return !met
		})
		return met
	case raw[0] == '{':
		return len(below) > 0 && j.reaches(c, event.Member(raw, below[0].name), below[1:])
	case len(below) > 0:
		return false
	}
	met, err := c.test.meets(raw)
	if err != nil {
		j.err = err
	}
	return met
}
