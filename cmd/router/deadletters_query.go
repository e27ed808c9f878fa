package main

import (
	"context"
	"errors"
	"net/url"
	"strconv"
	"time"

	"eventrouter/pkg/store"
)

func pageQuery(v url.Values) (q store.DeadLetterQuery, limit int, err error) {
	if q, err = lettersQuery(v); err != nil {
		return q, 0, err
	}
	if limit, err = number(v, "limit", 100, maxLimit); err != nil {
		return q, 0, err
	}
	past, err := number(v, "cursor", 0, 0)
	if err != nil {
		return q, 0, err
	}
	q.Past = int64(past)
	for name, set := range map[string]*bool{"bodies": &q.Bodies, "marked": &q.Marked, "oldest_first": &q.OldestFirst} {
		if *set, err = yes(v, name); err != nil {
			return q, 0, err
		}
	}
	return q, limit, nil
}

// number reads a parameter; most 0: any.
func number(v url.Values, name string, none, most int) (int, error) {
	text := v.Get(name)
	if text == "" {
		return none, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		return 0, badRequest("%s must be a number from 1", name)
	}
	if most > 0 {
		n = min(n, most)
	}
	return n, nil
}

// yes reads a parameter that is true or false.
func yes(v url.Values, name string) (bool, error) {
	switch v.Get(name) {
	case "", "false":
		return false, nil
	case "true":
		return true, nil
	default:
		return false, badRequest("%s must be true or false", name)
	}
}

// lettersQuery is what the filters in an address ask for.
func lettersQuery(v url.Values) (store.DeadLetterQuery, error) {
	var f letterFilter
	err := f.read(v)
	var q store.DeadLetterQuery
	if err == nil {
		q, err = f.query(time.Now())
	}
	if err != nil {
		return q, badRequest("%s", err)
	}
	return q, nil
}

var errEnough = errors.New("enough")

// eachLetter calls f with each dead letter that q finds, whatever its Limit, until f returns errEnough or another error. damaged says why the records of one
// can not be read. Few are in memory at a time.
func eachLetter(ctx context.Context, st *store.Store, q store.DeadLetterQuery, f func(d *store.DeadLetter, damaged string) error) error {
	give := func(letters []store.DeadLetter, damaged string) error {
		for i := range letters {
			q.Past = letters[i].ID
			if err := f(&letters[i], damaged); err != nil {
				return err
			}
		}
		return nil
	}
	q.Limit = 500
	if q.Bodies {
		q.Limit = 16 // each may have some megabytes
	}
	for {
		letters, err := st.DeadLetters(ctx, q)
		if damage := err; errors.Is(err, store.ErrDamaged) {
			if err = give(letters, ""); err == nil {
				one := q
				one.Past, one.Bodies, one.Limit = q.Past, false, 1
				if letters, err = st.DeadLetters(ctx, one); err == nil {
					err = give(letters, damage.Error())
				}
			}
			if err == nil {
				continue
			}
		} else if err == nil {
			err = give(letters, "")
		}
		switch {
		case errors.Is(err, errEnough):
			return nil
		case err != nil || len(letters) < q.Limit:
			return err
		}
	}
}
