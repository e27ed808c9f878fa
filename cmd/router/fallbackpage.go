package main

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"eventrouter/pkg/config"
	"eventrouter/pkg/store"
)

// Jitsu keeps what it could not deliver in files, lists them, and sends one again by its name. Here a name stands for the dead letters of one destination and
// day; no file has it, and no name reaches one.

// fallbackFiles is the answer of GET /api/v1/fallback.
type fallbackFiles struct {
	Files []fallbackFile `json:"files"`
}

type fallbackFile struct {
	Name        string   `json:"file_name"`
	Destination string   `json:"destination_id"`
	Tables      struct{} `json:"tables_statuses"`
}

// fallback answers GET /api/v1/fallback: a file for each destination and day that has dead letters which nobody has asked to replay.
func (p *lettersPages) fallback(ctx context.Context, r *http.Request) (any, error) {
	var wanted []string
	for name := range strings.SplitSeq(r.URL.Query().Get("destination_ids"), ",") {
		if name = strings.TrimSpace(name); name != "" {
			wanted = append(wanted, name)
		}
	}
	groups, err := p.store.GroupDeadLetters(ctx, store.DeadLetterQuery{})
	if err != nil {
		return nil, err
	}
	answer := fallbackFiles{Files: []fallbackFile{}}
	seen := map[string]bool{}
	for _, g := range groups {
		name := fallbackName(g.Destination, g.Day)
		if g.Destination == "" || g.Marked == g.Letters || seen[name] || len(wanted) > 0 && !slices.Contains(wanted, g.Destination) {
			continue
		}
		seen[name] = true
		answer.Files = append(answer.Files, fallbackFile{Name: name, Destination: g.Destination})
	}
	slices.SortStableFunc(answer.Files, func(a, b fallbackFile) int { return strings.Compare(a.Name, b.Name) })
	return answer, nil
}

const fallbackDay = "2006-01-02"

// fallbackName is the name under which Jitsu would keep what became dead on a day.
func fallbackName(destination string, day time.Time) string {
	return fmt.Sprintf("failed.dst=%s-%sT00-00-00.000.log", destination, day.Format(fallbackDay))
}

var fallbackPattern = regexp.MustCompile(`^failed\.dst=([^/\\]+)-(\d{4}-\d\d-\d\d)T00-00-00\.000\.log$`)

// fileToReplay is the body of POST /api/v1/replay, as Jitsu's scripts send it.
type fileToReplay struct {
	Name          string `json:"file_name"`
	Destination   string `json:"destination_id"`
	Format        string `json:"file_format"`
	SkipMalformed bool   `json:"skip_malformed"` // nothing is malformed here
}

// replayFile answers POST /api/v1/replay: it marks the dead letters for which a name stands, once.
func (p *lettersPages) replayFile(ctx context.Context, r *http.Request) (any, error) {
	var c fileToReplay
	if err := readBody(r, &c); err != nil {
		return nil, err
	}
	refuse := func(format string, args ...any) error {
		return badRequest("Failed to replay file: %.200s: %s", c.Name, fmt.Sprintf(format, args...))
	}
	missing := func() error {
		return refuse("Error reading file [%.200s] for replay: open %.200s: no such file or directory", c.Name, c.Name)
	}
	switch {
	case c.Name == "":
		return nil, refuse("File name can't be empty")
	case strings.ContainsAny(c.Name, `/\`) || strings.Contains(c.Name, ".."):
		return nil, refuse("a path is not taken: write a name that GET /api/v1/fallback lists")
	case c.Format != "" && c.Format != "event" && c.Format != "raw_json":
		return nil, refuse("unknown file_format %.40q", c.Format)
	}
	m := fallbackPattern.FindStringSubmatch(c.Name)
	if m == nil {
		return nil, missing()
	}
	day, err := time.Parse(fallbackDay, m[2])
	if err != nil {
		return nil, missing()
	}
	destination := m[1]
	if c.Destination != "" && c.Destination != destination {
		return nil, refuse("dead letters go to the destination that they were for, %.100s", destination)
	}
	if !slices.ContainsFunc(p.config().Destinations, func(d config.Destination) bool { return d.Name == destination }) {
		return nil, refuse("Destination [%.100s] wasn't found", destination)
	}
	q := store.DeadLetterQuery{Destination: destination, Since: day, Until: day.AddDate(0, 0, 1)}
	sum, err := p.store.SummarizeDeadLetters(ctx, q)
	switch {
	case err != nil:
		return nil, err
	case sum.Letters == 0:
		return nil, missing()
	case sum.Marked == sum.Letters:
		return nil, refuse("File [%.200s] is being processed", c.Name)
	}
	if _, err := p.store.MarkReplay(ctx, q, store.Replay{}); err != nil {
		return nil, err
	}
	return map[string]string{"status": "ok"}, nil
}
