package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"eventrouter/pkg/config"
	"eventrouter/pkg/redact"
	"eventrouter/pkg/store"
)

type deadlettersCmd struct {
	List   lettersListCmd   `cmd:"" help:"List dead letters, newest first."`
	Show   lettersShowCmd   `cmd:"" help:"Show everything of some dead letters, with their events."`
	Replay lettersReplayCmd `cmd:"" help:"Send dead letters again."`
	Edit   lettersEditCmd   `cmd:"" help:"Change the event of a dead letter, before it is replayed."`
	Drop   lettersDropCmd   `cmd:"" help:"Delete dead letters."`
	Export lettersExportCmd `cmd:"" help:"Write dead letters to a file, whole, to keep or to import elsewhere."`
	Import lettersImportCmd `cmd:"" help:"Put dead letters of an export back."`
}

// lettersFlags say where dead letters are asked for.
type lettersFlags struct {
	configFlag
	routerFlags
}

// filterFlags choose dead letters.
type filterFlags struct {
	IDs         []int64 `arg:"" optional:"" name:"id" help:"Only those with these numbers."`
	ID          []int64 `name:"id" placeholder:"N" help:"Likewise."`
	Destination string  `help:"Only those of this destination."`
	Hub         string  `help:"Only those of this remote account." placeholder:"ID"`
	Account     string  `help:"Only those of this connected account."`
	Lane        string  `help:"Only those of this lane, such as contacts or events."`
	Reason      string  `help:"Only those with this reason (rejected, account, filter, transform, plan, retries, lane_full, unknown_account, panic, poison, record, damaged, parked)."`
	EventType   string  `help:"Only those of events of this type." placeholder:"TYPE"`
	Person      string  `help:"Only those of this person, by e-mail or what else identifies it." placeholder:"EMAIL"`
	EventID     string  `name:"event-id" help:"Only those of the event with this id." placeholder:"ID"`
	APIKey      string  `name:"api-key" help:"Only those of events of the API key with this id." placeholder:"ID"`
	Since       string  `help:"Only those that became dead from then on: a time (2026-11-21T12:00:00Z), a date, or how long ago (24h, 7d)." placeholder:"WHEN"`
	Until       string  `help:"Only those that became dead before then." placeholder:"WHEN"`
}

// filter is what the flags choose, with times that do not move on.
func (f *filterFlags) filter() (letterFilter, error) {
	l := letterFilter{
		IDs: append(slices.Clone(f.IDs), f.ID...), Destination: f.Destination, Hub: f.Hub, Account: f.Account, Lane: f.Lane, APIKey: f.APIKey,
		Reason: f.Reason, EventID: f.EventID, EventType: f.EventType, Person: f.Person,
	}
	now := time.Now()
	for _, t := range []struct {
		flag, text string
		to         *string
	}{{"--since", f.Since, &l.Since}, {"--until", f.Until, &l.Until}} {
		at, err := moment(t.text, now)
		if err != nil {
			return l, usageError{fmt.Errorf("%s: %w", t.flag, err)}
		}
		if !at.IsZero() {
			*t.to = at.Format(time.RFC3339Nano)
		}
	}
	if l.Reason != "" && !slices.Contains(letterReasons, l.Reason) {
		return l, usageError{fmt.Errorf("--reason must be one of %s", strings.Join(letterReasons, ", "))}
	}
	slices.Sort(l.IDs)
	l.IDs = slices.Compact(l.IDs)
	return l, nil
}

// some is filter where nothing to filter by must be wanted.
func (f *filterFlags) some(everything bool, what string) (letterFilter, error) {
	l, err := f.filter()
	if err == nil && l.isEmpty() && !everything {
		err = usageError{fmt.Errorf("which dead letters are to be %s? Name their numbers, or --destination, --reason or another filter; or --everything", what)}
	}
	return l, err
}

// byIDs are filters with no more ids than one request may have, that choose together what f chooses.
func (f letterFilter) byIDs(most int) (parts []letterFilter) {
	if len(f.IDs) == 0 {
		return []letterFilter{f}
	}
	for ids := range slices.Chunk(f.IDs, most) {
		f.IDs = ids
		parts = append(parts, f)
	}
	return parts
}

// maxAddressIDs is how many ids an address may have: routers take headers of 16 KiB, if nobody has set less.
const maxAddressIDs = 100

// deadLetters are those that a command is about: those of the router that runs or, where none does, of its data directory.
type deadLetters struct {
	flags *lettersFlags
	cfg   *config.Config
	via   http.RoundTripper // nil: a router runs
	close func() error
}

// errNeverRan is for a directory in which there is nothing.
var errNeverRan = errors.New("no router has run there yet")

// find finds the dead letters. change says that the command changes them, for which the directory must not be in use.
func (f *lettersFlags) find(ctx context.Context, change bool) (*deadLetters, error) {
	cfg, err := f.routerFlags.load(f.Config)
	if err != nil {
		return nil, err
	}
	l := &deadLetters{flags: f, cfg: cfg, close: func() error { return nil }}
	err = l.get(ctx, "", url.Values{"id": {"0"}}, &lettersPage{}) // there is none: it costs nothing
	if err == nil || !f.absent(err) {
		return l, err
	}
	if _, err := os.Stat(filepath.Join(cfg.Server.DataDir, "router.db")); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", cfg.Server.DataDir, errNeverRan)
	}
	var st *store.Store
	if change {
		st, err = store.Open(cfg.Server.DataDir, storeOptions(cfg.Server, slog.New(slog.DiscardHandler)))
		if errors.Is(err, store.ErrInUse) {
			return nil, fmt.Errorf("%w: name the address of that router with --url", err)
		}
	} else {
		st, err = store.OpenReadOnly(cfg.Server.DataDir, cfg.Server.Encryption.Keys)
	}
	if err != nil {
		return nil, fmt.Errorf("open the store in %s: %w", cfg.Server.DataDir, err)
	}
	hidden := newRedactor(cfg)
	l.close = st.Close
	l.via = inProcess{&lettersPages{
		store: st, fields: redact.New(cfg.Server.Redact), logger: slog.New(slog.DiscardHandler),
		hidden: func() redactor { return hidden }, config: func() *config.Config { return cfg },
	}}
	return l, nil
}

// running says whether a router runs.
func (l *deadLetters) running() bool { return l.via == nil }

// get asks one of the pages.
func (l *deadLetters) get(ctx context.Context, page string, v url.Values, answer any) error {
	return l.flags.call(ctx, l.cfg, routerCall{path: lettersPath + page + "?" + v.Encode(), via: l.via}, answer)
}

// post asks for a change.
func (l *deadLetters) post(ctx context.Context, page string, body, answer any) error {
	return l.flags.call(ctx, l.cfg, routerCall{method: http.MethodPost, path: lettersPath + page, body: body, via: l.via, patience: changing}, answer)
}

// summary counts what a filter finds.
func (l *deadLetters) summary(ctx context.Context, f letterFilter, marked bool) (sum lettersSummary, err error) {
	for _, part := range f.byIDs(maxAddressIDs) {
		v := part.values()
		if marked {
			v.Set("marked", "true")
		}
		var got lettersSummary
		if err := l.get(ctx, "/summary", v, &got); err != nil {
			return sum, err
		}
		sum.add(got)
	}
	return sum, nil
}

// add adds what was counted elsewhere.
func (s *lettersSummary) add(o lettersSummary) {
	s.Letters += o.Letters
	s.Bytes += o.Bytes
	s.Marked += o.Marked
	if o.Oldest != nil && (s.Oldest == nil || o.Oldest.Before(*s.Oldest)) {
		s.Oldest = o.Oldest
	}
	for _, g := range o.Groups {
		s.group(g)
	}
	s.sort()
}

// each calls f with the letters that a filter finds, newest first, until it returns errEnough or another error.
func (l *deadLetters) each(ctx context.Context, filter letterFilter, o eachOptions, f func(data []byte) error) error {
	for _, part := range filter.byIDs(maxAddressIDs) {
		v := part.values()
		v.Set("limit", fmt.Sprint(o.page))
		if o.bodies {
			v.Set("bodies", "true")
		}
		if o.past > 0 {
			v.Set("cursor", fmt.Sprint(o.past))
		}
		for {
			var page rawLettersPage
			if err := l.get(ctx, "", v, &page); err != nil {
				return err
			}
			for _, data := range page.Letters {
				switch err := f(data); {
				case errors.Is(err, errEnough):
					return nil
				case err != nil:
					return err
				}
			}
			if page.Next == "" {
				break
			}
			v.Set("cursor", page.Next)
		}
	}
	return nil
}

type eachOptions struct {
	bodies bool
	past   int64 // only those behind the one with this number
	page   int   // how many are fetched at a time
}

// tellGroups prints how many dead letters there are, by destination and reason.
func tellGroups(s streams, sum lettersSummary) error {
	w := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "DESTINATION\tREASON\tDEAD LETTERS\tMARKED")
	for _, g := range sum.Groups {
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\n", cell(g.Destination), g.Reason, g.Letters, g.Marked)
	}
	fmt.Fprintf(w, "all\t\t%d\t%d\n", sum.Letters, sum.Marked)
	return w.Flush()
}
