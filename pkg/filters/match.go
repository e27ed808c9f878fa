package filters

import (
	"eventrouter/pkg/config"
	"eventrouter/pkg/event"
)

// Match is a compiled `filter` of a destination: conditions on an event's members, without code. It may be used from many goroutines.
type Match struct{}

// CompileMatch checks the conditions. All that is wrong with them is returned at once, as a [config.Problems]. Nil: there are none.
func CompileMatch(s config.Settings) (*Match, error) {
	if !s.Has("*") {
		return nil, nil
	}
	return nil, config.Problems{s.Problem("", "filters without code are not in this version")}
}

// Eval says whether ev meets the conditions; Why tells the first that it does not meet.
func (m *Match) Eval(*event.Event) (Result, error) { return Result{Keep: true}, nil }
