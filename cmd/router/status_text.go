package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"eventrouter/pkg/router"
)

// writeStatus tells in plain words how a router is.
func writeStatus(out io.Writer, s *routerStatus) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	row := func(label, format string, args ...any) { fmt.Fprintf(w, label+"\t"+format+"\n", args...) }
	if s.Status == "stopped" {
		row("router", "none runs; this is what %s holds", cell(s.DataDir))
	} else {
		row("router", "%s, version %s, up %s", s.Status, cell(s.Version), seconds(s.UptimeSeconds))
		row("data", "%s", cell(s.DataDir))
	}
	disk := fmt.Sprintf("%s free, events are refused below %s", binaryBytes(s.Disk.FreeBytes), binaryBytes(s.Disk.MinFreeBytes))
	if s.Disk.Full {
		disk += ": FULL"
	}
	row("disk", "%s", disk)
	for _, l := range s.Logs {
		unsorted := ""
		if l.Unsorted != nil {
			unsorted = fmt.Sprintf(", %d unsorted", *l.Unsorted)
		}
		row("log "+cell(l.Name), "%s%s", binaryBytes(l.Bytes), unsorted)
	}
	row("store", "%s", binaryBytes(s.StoreBytes))
	row("waiting", "%s", waiting(s.Waiting, s.OldestSeconds))
	row("dead letters", "%s", letters(s.DeadLetters))
	for _, r := range s.Refused {
		key, of := cell(r.APIKey), "imports and replays"
		if r.APIKey == "" {
			key = "all API keys"
		}
		if r.Live {
			of = "all events"
		}
		row("refused", "%s: %s: %s", key, of, cell(r.Reason))
	}
	if len(s.Lanes) > 0 {
		fmt.Fprintln(w)
		writeLanes(w, s.Lanes)
	}
	if len(s.LastErrors) > 0 {
		fmt.Fprintln(w)
		fmt.Fprintln(w, "LAST ERRORS")
	}
	for _, l := range s.LastErrors {
		fmt.Fprintf(w, "%s\t%s\t%s\n", l.At.UTC().Format(time.RFC3339), cell(l.Level), cell(l.Text))
	}
	return w.Flush()
}

func writeLanes(w io.Writer, lanes []router.LaneStatus) {
	fmt.Fprintln(w, "DESTINATION\tHUB\tACCOUNT\tLANE\tSTATE\tWAITING\tOLDEST\tSINCE\tNEXT TRY\tWHY")
	for i := range lanes {
		writeLane(w, &lanes[i])
	}
}

func writeLane(w io.Writer, l *router.LaneStatus) {
	at := func(t *time.Time) string {
		if t == nil {
			return "-"
		}
		return t.UTC().Format(time.RFC3339)
	}
	oldest := "-"
	if l.Entries > 0 {
		oldest = seconds(l.OldestSeconds)
	}
	why := l.Reason
	if l.GivesUp != nil {
		why += "; the oldest entry waits until " + at(l.GivesUp) + " (unknown_account_ttl)"
	}
	n := l.Name
	fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\t%s\t%s\n", cell(n.Destination), cell(n.Hub), cell(n.Account), cell(n.Lane), cell(string(l.State)), l.Entries,
		oldest, at(l.Since), at(l.NextTry), cell(why))
}

func waiting(n int64, oldest float64) string {
	if n == 0 {
		return "nothing"
	}
	entries := "1 entry"
	if n > 1 {
		entries = fmt.Sprintf("%d entries", n)
	}
	return entries + ", the oldest for " + seconds(oldest)
}

func letters(counts []letterCount) string {
	total := int64(0)
	var parts []string
	for _, c := range counts {
		total += c.Count
		parts = append(parts, fmt.Sprintf("%s %s %d", cell(c.Destination), cell(c.Reason), c.Count))
	}
	if total == 0 {
		return "none"
	}
	return fmt.Sprintf("%d: %s", total, strings.Join(parts, ", "))
}

// seconds is a time to the second, as 3h25m or 12s.
func seconds(s float64) string {
	text := time.Duration(s * float64(time.Second)).Round(time.Second).String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// binaryBytes is a size with a unit.
func binaryBytes(n int64) string {
	const units = "KMGTPE"
	v, unit := float64(n), -1
	for v >= 1024 && unit < len(units)-1 {
		v /= 1024
		unit++
	}
	if unit < 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %ciB", v, units[unit])
}
