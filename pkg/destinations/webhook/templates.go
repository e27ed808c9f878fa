package webhook

import (
	"sync"

	"eventrouter/pkg/config"
	"eventrouter/pkg/filters"
)

// templates make what differs from event to event. Their engines are not for concurrent use, so each user takes a set of its own: there are as many
// as there ever were at a time.
type templates struct {
	compile func() (*templateSet, config.Problems)

	mu   sync.Mutex // guards the field below
	free []*templateSet
}

// templateSet is one of each.
type templateSet struct {
	url     *filters.Text
	headers []*filters.Text // as Destination.headers
	body    *filters.Value  // nil: the event
	key     *filters.Value  // nil: no expression
}

// templates compiles what the settings say, and warns of what is hardly meant.
func (c *checker) templates(d *Destination) *templates {
	set, headers, options := d.set, d.headers, c.options()
	compile := func() (*templateSet, config.Problems) {
		t := &templateSet{}
		var problems config.Problems
		fail := func(key string, err error) { problems = append(problems, c.settings.Problem(key, "%v", err)) }
		var err error
		t.url, _ = filters.CompileText(set.URL, options, escapePlace) // its errors are found with the address
		for _, h := range headers {
			text, err := filters.CompileText(h.value, options, nil)
			if err != nil {
				fail("headers."+h.key, err)
			}
			t.headers = append(t.headers, text)
		}
		if set.Body != "" {
			if t.body, err = filters.CompileValue(set.Body, options); err != nil {
				fail("body", err)
			}
		}
		if set.Key != keyPerson && set.Key != keyNone && set.Key != keyAll {
			if t.key, err = filters.CompileValue(set.Key, options); err != nil {
				fail("key", err)
			}
		}
		return t, problems
	}
	t, problems := compile()
	c.problems = append(c.problems, problems...)
	if len(problems) == 0 {
		c.judge(d, t)
	}
	return &templates{compile: compile, free: []*templateSet{t}}
}

// judge looks at constants: they would fail for every event.
func (c *checker) judge(d *Destination, t *templateSet) {
	if t.key != nil {
		c.check(t.key.Format() != filters.Constant, "key", "must be %s, %s, %s or an expression such as $.order.id", keyPerson, keyNone, keyAll)
		for _, w := range t.key.Warnings() {
			c.log.Warn("key: " + w)
		}
	}
	if t.body == nil {
		return
	}
	for _, w := range t.body.Warnings() {
		c.log.Warn("body: " + w)
	}
	if t.body.Format() == filters.Constant {
		if v, err := t.body.Eval(nil); err == nil {
			_, err = d.format.body(v)
			c.check(err == nil, "body", "%v", err)
		}
	}
}

// take returns a set, which its user gives back.
func (t *templates) take() *templateSet {
	t.mu.Lock()
	if n := len(t.free); n > 0 {
		set := t.free[n-1]
		t.free = t.free[:n-1]
		t.mu.Unlock()
		return set
	}
	t.mu.Unlock()
	set, problems := t.compile()
	if err := problems.Err(); err != nil {
		panic("BUG: a template that was checked does not compile: " + err.Error())
	}
	return set
}

func (t *templates) give(set *templateSet) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.free = append(t.free, set)
}
