package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Problem is one thing wrong with the file, with its place and what to do.
type Problem struct {
	Pos  Pos
	Path string // such as destinations.crm.hubspot
	Text string
}

// String is file:line: path: text, without the parts that are unknown.
func (p Problem) String() string {
	var b strings.Builder
	if p.Pos.File != "" {
		b.WriteString(p.Pos.File)
		if p.Pos.Line > 0 {
			fmt.Fprintf(&b, ":%d", p.Pos.Line)
		}
		b.WriteString(": ")
	}
	if p.Path != "" {
		b.WriteString(p.Path + ": ")
	}
	return b.String() + p.Text
}

// Problems is an error that lists all of them, a line each.
type Problems []Problem

func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// With returns ps and those of more whose path ps has no problem with: what could not be read, such as a variable that is not set, is not also missing.
func (ps Problems) With(more Problems) Problems {
	all := ps
	for _, p := range more {
		if !slices.ContainsFunc(ps, func(known Problem) bool { return known.Path == p.Path }) {
			all = append(all, p)
		}
	}
	return all
}

// Sorted orders ps in place: files as they first occur, in each the lines, and keeps the order of what stands on one line. What is in ps twice, as where two parts of the
// program read one value, is in the result once.
func (ps Problems) Sorted() Problems {
	rank := map[string]int{}
	for _, p := range ps {
		if _, ok := rank[p.Pos.File]; !ok {
			rank[p.Pos.File] = len(rank)
		}
	}
	slices.SortStableFunc(ps, func(a, b Problem) int {
		return cmp.Or(rank[a.Pos.File]-rank[b.Pos.File], a.Pos.Line-b.Pos.Line)
	})
	seen := make(map[Problem]bool, len(ps))
	return slices.DeleteFunc(ps, func(p Problem) bool {
		again := seen[p]
		seen[p] = true
		return again
	})
}

// Err returns nil for no problems.
func (ps Problems) Err() error {
	if len(ps) == 0 {
		return nil
	}
	return ps
}
