package enrich

import (
	"strings"
	"sync"
	"time"
)

const (
	// maxAgentBytes is how much of a user agent is looked at: real ones have some 100 to 300 bytes, and what an expression costs grows with them.
	maxAgentBytes = 512
	// maxTries bounds the expressions that one user agent is held against for its program, its system or its device; of 100,000 known ones none needs more than 25.
	maxTries = 64
	// parseShare is the part of the time that parsing unknown user agents may take, with a start of parseBurst: a flood of made-up ones
	// shall not hold up the sorter.
	parseShare = 4
	parseBurst = time.Second
)

// agents makes parsed_ua of user agents. It may be used from many goroutines.
type agents struct {
	keywords []string // in lower case
	now      func() time.Time

	known cache[string, agent]

	mu       sync.Mutex // guards the fields below
	haystack haystack
	left     time.Duration // to parse in
	at       time.Time     // when left was brought up to date
	unparsed int64
}

// agent is what a user agent says.
type agent struct {
	json string // an object
	bot  bool
}

// botKeywords are Jitsu's.
var botKeywords = [...]string{"bot", "spider", "headless", "crawler", "uptimia"}

func newAgents(keywords []string) *agents {
	a := &agents{left: parseBurst, now: time.Now}
	a.keywords = append(a.keywords, botKeywords[:]...)
	for _, k := range keywords {
		a.keywords = append(a.keywords, strings.ToLower(k))
	}
	return a
}

// parse returns what a user agent says; the zero agent if that is nothing.
func (a *agents) parse(text string) agent {
	if len(text) > maxAgentBytes {
		text = text[:maxAgentBytes]
	}
	if text == "" {
		return agent{}
	}
	if found, ok := a.known.get(text); ok {
		return found
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	began := a.now()
	a.left = min(a.left+began.Sub(a.at)/parseShare, parseBurst)
	a.at = began
	if a.left <= 0 {
		a.unparsed++
		if a.isBot(text) {
			return agent{json: `{"bot":true}`, bot: true}
		}
		return agent{}
	}
	found := a.read(text)
	a.left -= a.now().Sub(began)
	a.known.put(strings.Clone(text), found)
	return found
}

// read makes an agent of its text.
func (a *agents) read(text string) agent {
	p := knownPatterns()
	h := &a.haystack
	h.fill(text)
	program, _ := h.first(p.programs, maxTries)
	system, _ := h.first(p.systems, maxTries)
	device, _ := h.first(p.devices, maxTries)
	for i := range device {
		device[i] = strings.TrimSpace(device[i])
	}
	found := agent{bot: device[0] == "Spider" || device[1] != "Cubot" && a.isBot(text)}
	var o object
	o.text("ua_family", program[0])
	o.text("ua_version", version(program[1:4]))
	o.text("os_family", system[0])
	o.text("os_version", version(system[1:5]))
	o.text("device_family", device[0])
	o.text("device_brand", device[1])
	o.text("device_model", device[2])
	if found.bot {
		o.key("bot")
		o.dst = append(o.dst, "true"...)
	}
	found.json = string(o.end())
	return found
}

// isBot is Jitsu's rule.
func (a *agents) isBot(text string) bool {
	text = strings.ToLower(text)
	for _, k := range a.keywords {
		if strings.Contains(text, k) {
			return true
		}
	}
	return false
}

// version joins parts of a version as the library does.
func version(parts []string) string {
	var b strings.Builder
	for i, p := range parts {
		if p == "" {
			continue
		}
		if i > 0 {
			b.WriteByte('.')
		}
		b.WriteString(p)
	}
	return b.String()
}
