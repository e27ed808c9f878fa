package testcase

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Event is one event of a case, and what the router would know of it beside its JSON.
type Event struct {
	// Line is where its JSON begins in the file.
	Line int
	// APIKey is the id of the API key; "": the configuration's first.
	APIKey string
	// Server is false when a browser posted it.
	Server bool
	// At is the time of receipt, in UTC.
	At time.Time
	// IP and UserAgent are the client's; "": not known.
	IP, UserAgent string
	// Protocol is that of a message of Segment's kind: segment, rudderstack or jitsu. "": JSON is an event as such.
	Protocol string
	// App is whose event JSON is, as an end user of Account posts it; "": of none.
	App, Account string
	// JSON is one object, without spaces between its members.
	JSON []byte
}

// Start is when the first event of a case is received, unless it says otherwise. Each further one comes a second later.
var Start = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// parseEvents reads JSON objects, each beginning on a line of its own, between comments and lines of settings, which begin with @.
func parseEvents(s *Section, p *problems) []Event {
	var all []Event
	next := Event{Server: true, At: Start}
	rest, line := s.Text, s.Line
	skip := func(n int) {
		line += bytes.Count(rest[:n], []byte("\n"))
		rest = rest[n:]
	}
	for len(rest) > 0 {
		whole := lineBytes(rest)
		text := strings.TrimSpace(string(rest[:whole]))
		if settings, ok := strings.CutPrefix(text, "@"); ok {
			for _, problem := range next.set(settings) {
				p.add(line, "%s", problem)
			}
		}
		if text == "" || isComment(text) || text[0] == '@' {
			skip(whole)
			continue
		}
		value, n, err := firstValue(rest)
		if err != nil {
			p.add(line+bytes.Count(rest[:n], []byte("\n")), "is no event: %v", err)
			return all // what follows can not be told apart
		}
		next.Line, next.JSON = line, value
		all = append(all, next)
		next.At = next.At.Add(time.Second)
		skip(n)
		if end := lineBytes(rest); strings.TrimSpace(string(rest[:end])) == "" {
			skip(end)
		} else {
			p.add(line, "each event begins on a line of its own")
			return all
		}
	}
	return all
}

// firstValue returns the object at the beginning of data without spaces, and where it ends; beside an error, where that was found.
func firstValue(data []byte) (value []byte, n int, err error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	var raw json.RawMessage
	if err := dec.Decode(&raw); err != nil {
		var syntax *json.SyntaxError
		switch {
		case errors.As(err, &syntax):
			n = int(min(max(syntax.Offset-1, 0), int64(len(data))))
		case errors.Is(err, io.ErrUnexpectedEOF):
			err = errors.New("the JSON that begins here has no end")
		}
		return nil, n, err
	}
	if raw[0] != '{' {
		return nil, 0, errors.New("it must be a JSON object")
	}
	var out bytes.Buffer
	if err := json.Compact(&out, raw); err != nil {
		return nil, 0, err
	}
	return out.Bytes(), int(dec.InputOffset()), nil
}

// set takes in what a line that begins with @ says: name=value, name="a value with spaces".
func (e *Event) set(line string) (problems []string) {
	for {
		line = strings.TrimLeft(line, " \t")
		if line == "" {
			return problems
		}
		name, rest, ok := strings.Cut(line, "=")
		if !ok || strings.ContainsAny(name, " \t\"") {
			return append(problems, `after @ stand settings such as key=web or user_agent="Mozilla/5.0 (X11)"`)
		}
		value := rest
		if quoted, err := strconv.QuotedPrefix(rest); err == nil {
			value, _ = strconv.Unquote(quoted)
			line = rest[len(quoted):]
		} else if i := strings.IndexAny(rest, " \t"); i >= 0 {
			value, line = rest[:i], rest[i:]
		} else {
			line = ""
		}
		if problem := e.setOne(name, value); problem != "" {
			problems = append(problems, problem)
		}
	}
}

func (e *Event) setOne(name, value string) (problem string) {
	switch name {
	case "key":
		e.APIKey = value
	case "from":
		if value != "server" && value != "browser" {
			return "from is server or browser"
		}
		e.Server = value == "server"
	case "at":
		return e.setTime(value)
	case "ip":
		if _, err := netip.ParseAddr(value); value != "" && err != nil {
			return "ip is an address such as 203.0.113.7"
		}
		e.IP = value
	case "user_agent":
		e.UserAgent = value
	case "protocol":
		switch value {
		case "segment", "rudderstack", "jitsu":
			e.Protocol = value
		case "none":
			e.Protocol = ""
		default:
			return "protocol is segment, rudderstack or jitsu (its second version), or none for events as they are"
		}
	case "app":
		e.App = value
	case "account":
		e.Account = value
	default:
		return "unknown setting " + strconv.Quote(name) + "; there are key, from, at, ip, user_agent, protocol, app and account"
	}
	return ""
}

// setTime reads a time, or with + how long after the event before. The next event would be a second later anyway.
func (e *Event) setTime(value string) (problem string) {
	const wrong = "at is a time such as 2026-11-21T10:00:00Z, or +1h30m after the event before"
	if after, ok := strings.CutPrefix(value, "+"); ok {
		d, err := time.ParseDuration(after)
		if err != nil || d < 0 {
			return wrong
		}
		e.At = e.At.Add(d)
		if e.Line > 0 {
			e.At = e.At.Add(-time.Second)
		}
		return ""
	}
	at, err := time.Parse(time.RFC3339Nano, value)
	if err != nil || at.Year() < 1970 || at.Year() > 9999 {
		return wrong
	}
	e.At = at.UTC()
	return ""
}
