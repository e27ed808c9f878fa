package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

type lettersReplayCmd struct {
	lettersFlags
	filterFlags
	AsIs       bool `name:"as-is" help:"Send the event as it was to be delivered. Default: what the original event gives now, with the transform, filter and mappings of today."`
	Overwrite  bool `help:"Write properties too that a later event of the person wrote since."`
	All        bool `help:"Send all outputs that the event gives now, where their number is no longer the same."`
	Everything bool `help:"All dead letters that there are, where nothing is filtered by."`
	DryRun     bool `name:"dry-run" help:"Only tell how many, by destination and reason."`
	NoWait     bool `name:"no-wait" help:"Only mark them; the router replays them in the background."`
	Cancel     bool `help:"Take the marks away of what is not replayed yet."`
}

// Help is shown by router deadletters replay --help.
func (lettersReplayCmd) Help() string {
	return `Marks dead letters, on disk, to be sent again, and shows how the router does so. It goes on if this command ends, and after a restart. Only the output that
failed is sent again, and of a contact only properties that no later event wrote. Where no router runs they are replayed at the next start.

  router deadletters replay --destination crm --reason transform --dry-run
  router deadletters replay --destination crm --reason transform`
}

// Run implements the command.
func (c *lettersReplayCmd) Run(ctx context.Context, s streams) error {
	if c.Cancel && (c.AsIs || c.Overwrite || c.All) {
		return usageError{errors.New("--cancel takes marks away; --as-is, --overwrite and --all say how to replay")}
	}
	f, err := c.some(c.Everything, "replayed")
	if err != nil {
		return err
	}
	l, err := c.find(ctx, true)
	if err != nil {
		return err
	}
	defer l.close()
	done, err := c.mark(ctx, l, f)
	if err != nil {
		return err
	}
	switch {
	case c.DryRun:
		return tellGroups(s, done.Found)
	case c.Cancel:
		fmt.Fprintf(s.out, "%s taken away\n", count(int(done.Unmarked), "mark"))
		return nil
	case done.Found.Letters == 0:
		fmt.Fprintln(s.out, "no dead letters")
		return nil
	}
	fmt.Fprintf(s.out, "%s marked", count(int(done.Marked), "dead letter"))
	if done.Found.Marked > 0 {
		fmt.Fprintf(s.out, ", %d were already", done.Found.Marked)
	}
	fmt.Fprintln(s.out)
	if !l.running() {
		fmt.Fprintln(s.out, "no router runs: they are replayed at its next start")
		return nil
	}
	if c.NoWait {
		return nil
	}
	total := done.Marked + done.Found.Marked
	if err := c.wait(ctx, s, l, f, total); err != nil {
		return err
	}
	return tellReplayed(ctx, s, l, f, replayed{total, done.At})
}

// mark marks, counts or takes marks away, as the flags say.
func (c *lettersReplayCmd) mark(ctx context.Context, l *deadLetters, f letterFilter) (all replayAnswer, err error) {
	for _, part := range f.byIDs(maxLetterIDs) {
		var got replayAnswer
		err := l.post(ctx, "/replay", replayChange{
			lettersChange: lettersChange{letterFilter: part, Everything: c.Everything, DryRun: c.DryRun},
			AsIs:          c.AsIs, Overwrite: c.Overwrite, All: c.All, Cancel: c.Cancel,
		}, &got)
		if err != nil {
			return all, err
		}
		if all.At.IsZero() {
			all.At = got.At
		}
		all.Marked += got.Marked
		all.Unmarked += got.Unmarked
		all.Found.add(got.Found)
	}
	return all, nil
}

const (
	replayLook = 200 * time.Millisecond
	// replayPatience is how long the router may be away, as for a restart.
	replayPatience = 2 * time.Minute
)

// wait shows how many are replayed until all are.
func (c *lettersReplayCmd) wait(ctx context.Context, s streams, l *deadLetters, f letterFilter, total int64) error {
	shown := newCountProgress(s.err, "replay", total)
	defer shown.end()
	answered := time.Now()
	for {
		sum, err := l.summary(ctx, f, true)
		switch {
		case ctx.Err() != nil:
		case err == nil:
			answered = time.Now()
			shown.at(max(0, total-sum.Letters))
			if sum.Letters == 0 {
				return nil
			}
		case time.Since(answered) > replayPatience:
			return fmt.Errorf("%w; the marks stay, and the replay goes on when the router runs", err)
		}
		select {
		case <-ctx.Done():
			shown.end()
			return errors.New("interrupted: the router goes on with the replay; router deadletters replay --cancel takes away the marks of what is left")
		case <-time.After(replayLook):
		}
	}
}

// replayed is a replay that is over.
type replayed struct {
	total int64
	began time.Time // by the router's clock
}

// most letters are looked at to tell what became of a replay.
const mostReplayed = 20_000

// tellReplayed tells what became of a replay: how many were handed over, which stopped and why, and which are dead again by now.
func tellReplayed(ctx context.Context, s streams, l *deadLetters, f letterFilter, r replayed) error {
	problems := map[string][]int64{}
	stopped, back, looked := int64(0), int64(0), 0
	look := func(f letterFilter, see func(d *shownLetter)) error {
		return l.each(ctx, f, eachOptions{page: 1000}, func(data []byte) error {
			if looked++; looked > mostReplayed {
				return errEnough
			}
			var d shownLetter
			if err := json.Unmarshal(data, &d); err != nil {
				return err
			}
			see(&d)
			return nil
		})
	}
	err := look(f, func(d *shownLetter) {
		if d.Problem != "" && d.Replay == nil {
			stopped++
			problems[d.Problem] = append(problems[d.Problem], d.ID)
		}
	})
	if err != nil {
		return err
	}
	// One that comes back has another time, and perhaps another reason.
	f.Since, f.Until, f.Reason = r.began.Format(time.RFC3339Nano), "", ""
	if err := look(f, func(d *shownLetter) {
		if d.Replays > 0 && d.Replay == nil && d.Problem == "" {
			back++
		}
	}); err != nil {
		return err
	}
	least := ""
	if looked > mostReplayed {
		least = "at least "
	}
	fmt.Fprintf(s.out, "%d handed over, %s%d stopped\n", max(0, r.total-stopped), least, stopped)
	if back > 0 {
		fmt.Fprintf(s.out, "%s%d of them came back: they failed again, and are dead letters again (router deadletters list)\n", least, back)
	}
	tellProblems(s, problems)
	if stopped > 0 {
		return fmt.Errorf("%s stopped", count(int(stopped), "replay"))
	}
	return nil
}

// tellProblems tells why replays stopped, the most common reason first.
func tellProblems(s streams, problems map[string][]int64) {
	const most = 10
	texts := slices.SortedFunc(maps.Keys(problems), func(a, b string) int {
		return cmp.Or(cmp.Compare(len(problems[b]), len(problems[a])), strings.Compare(a, b))
	})
	for i, text := range texts {
		if i == most {
			fmt.Fprintf(s.out, "  and %d more reasons\n", len(texts)-most)
			break
		}
		ids := problems[text]
		fmt.Fprintf(s.out, "  %d stopped, such as dead letter %d: %s\n", len(ids), slices.Min(ids), line(text))
	}
}
