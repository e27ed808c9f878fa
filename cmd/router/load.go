package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"time"

	"eventrouter/pkg/config"
	"eventrouter/pkg/destinations"
	"eventrouter/pkg/enrich"
)

// load reads and checks a file wholly, for commands that need none of what stands elsewhere: that comes from the versions that a router has kept,
// and is left out where there are none.
func load(path string) (*config.Config, error) {
	l := loader{path: path, fresh: func(context.Context, config.Address) (config.Version, error) {
		return config.Version{}, config.ErrLeftOut
	}, good: kept}
	loaded, err := l.load(context.Background())
	if err != nil {
		return nil, withoutFile(err)
	}
	return loaded.cfg, nil
}

// withoutFile says what to do where a command has no configuration.
func withoutFile(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return usageError{fmt.Errorf("%w: name a configuration file with --config FILE or in CONFIG_LOCATION, or try it without one: router demo", err)}
	}
	return err
}

// loader reads a configuration: its file, what stands elsewhere, and what only destinations and filters can check.
type loader struct {
	path string
	data []byte // the file's; nil: it is read
	// fresh returns what stands at an address now, and good the version to use where that can not be read or is wrong.
	fresh func(context.Context, config.Address) (config.Version, error)
	good  func(a config.Address, server config.Server) (config.Version, error)
	// insist makes do with good versions also when fresh ones are wrong only together with the rest: for a start.
	insist bool
	// strict uses no good version where a fresh one is wrong: for a check.
	strict bool
	// withoutGeo does not look at MaxMind databases.
	withoutGeo bool
	// options are further ones of reading the file.
	options config.Options

	scripts []config.Script // of the last attempt, not nil; nil: nothing could be read as a configuration
}

func kept(a config.Address, server config.Server) (config.Version, error) {
	return config.Kept(server, a)
}

// fetched reads addresses over the network.
func fetched(e *config.Elsewhere) func(context.Context, config.Address) (config.Version, error) {
	return func(ctx context.Context, a config.Address) (config.Version, error) {
		body, err := e.ReadAnew(ctx, a)
		return config.Version{Body: body, At: time.Now()}, err
	}
}

// loaded is a configuration that was wholly checked.
type loaded struct {
	cfg      *config.Config
	data     []byte // the file's
	scripts  []config.Script
	versions map[config.Address]config.Version
	troubles map[config.Address]trouble // where the last good version is used instead of what stands there now
}

// script is what a transform file held when the configuration was read.
func (l *loaded) script(path string) ([]byte, error) {
	for _, s := range l.scripts {
		if s.Path == path && s.Data != nil {
			return s.Data, nil
		}
	}
	return nil, fs.ErrNotExist
}

// trouble is why what stands at an address is not used.
type trouble struct {
	state addressState
	lines []string // for people
}

// load returns a configuration in which nothing is wrong, or everything that is. Its error is a usageError.
func (l *loader) load(ctx context.Context) (*loaded, error) {
	if l.data == nil {
		var err error
		if l.data, err = config.ReadFile(l.path); err != nil {
			return nil, usageError{err}
		}
	}
	answers := map[config.Address]answer{}
	first, problems := l.attempt(ctx, answers, func(config.Address) bool { return false })
	switch {
	case len(problems) == 0:
		return first, nil
	case l.strict:
		return nil, usageError{problems}
	}
	// What is wrong may be what stands elsewhere: then the version before goes on.
	wrong := func(a config.Address) bool {
		return slices.ContainsFunc(problems, func(p config.Problem) bool { return p.Pos.File == a.String() })
	}
	suspects := []func(config.Address) bool{wrong}
	if l.insist {
		suspects = append(suspects, func(config.Address) bool { return true })
	}
	for _, suspect := range suspects {
		second, more := l.attempt(ctx, answers, suspect)
		if len(more) > 0 || len(second.troubles) == len(first.troubles) {
			continue
		}
		for a, t := range second.troubles {
			if t.state == addressRefused {
				for _, p := range problems {
					t.lines = append(t.lines, p.String())
				}
				second.troubles[a] = t
			}
		}
		return second, nil
	}
	return nil, usageError{problems}
}

// answer is what an address gave: it is asked once for a load.
type answer struct {
	config.Version
	err error
}

// attempt checks the file with what stands elsewhere, for suspects with the last good version where there is another.
func (l *loader) attempt(ctx context.Context, answers map[config.Address]answer, suspect func(config.Address) bool) (*loaded, config.Problems) {
	out := &loaded{data: l.data, versions: map[config.Address]config.Version{}, troubles: map[config.Address]trouble{}}
	read := func(a config.Address, server config.Server) ([]byte, error) {
		now, asked := answers[a]
		if !asked {
			now.Version, now.err = l.fresh(ctx, a)
			answers[a] = now
		}
		version := now.Version
		if now.err != nil || suspect(a) {
			good, err := l.good(a, server)
			switch {
			case now.err != nil && err != nil && errors.Is(now.err, config.ErrLeftOut):
				return nil, now.err
			case now.err != nil && err != nil:
				return nil, fmt.Errorf("%w; %w", now.err, err)
			case now.err != nil:
				version, out.troubles[a] = good, trouble{addressUnreachable, []string{now.err.Error()}}
			case err == nil && !bytes.Equal(good.Body, now.Body):
				version, out.troubles[a] = good, trouble{state: addressRefused}
			}
		}
		out.versions[a] = version
		return version.Body, nil
	}
	options := l.options
	options.Read = read
	cfg, err := config.ParseWith(l.path, l.data, options)
	var problems config.Problems
	if err != nil && (!errors.As(err, &problems) || cfg == nil) {
		return out, asProblems(err, l.path)
	}
	out.cfg, out.scripts, l.scripts = cfg, cfg.Scripts, append([]config.Script{}, cfg.Scripts...)
	if path := cfg.Geo.MaxMindPath; path != "" && !l.withoutGeo {
		if err := enrich.CheckGeo(path); err != nil {
			problems = append(problems, config.Problem{Pos: cfg.Geo.Pos, Path: "geo.maxmind_path", Text: err.Error()})
		}
	}
	_, warnings, err := routes(cfg, checkedParts(cfg))
	w, more := checkApps(cfg.Apps)
	problems = append(problems, more...)
	if errors.As(err, &more) {
		problems = append(problems, more...)
	}
	cfg.Warnings = append(append(cfg.Warnings, warnings...), w...).Sorted()
	return out, problems.Sorted()
}

// checkedParts are for routes that are only looked at: they deliver nothing.
func checkedParts(cfg *config.Config) parts {
	return parts{
		logger: slog.New(slog.DiscardHandler), metrics: discardMetrics(), cache: noCache{}, shared: &destinations.Shared{},
		enricher: newEnricher(cfg, &enrich.Geo{}),
	}
}

// asProblems is err as a list.
func asProblems(err error, file string) config.Problems {
	var problems config.Problems
	if errors.As(err, &problems) {
		return problems
	}
	return config.Problems{{Pos: config.Pos{File: file}, Text: err.Error()}}
}
