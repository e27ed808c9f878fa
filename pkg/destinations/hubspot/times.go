package hubspot

import (
	"strconv"
	"strings"
	"time"

	"github.com/tidwall/gjson"
)

// timeLayouts are ISO 8601 in the forms that HubSpot takes, and what databases print. Fractions of seconds pass with any; a time without a zone
// is in UTC.
var timeLayouts = [...]string{
	time.RFC3339Nano, time.DateOnly,
	"2006-01-02T15:04:05", "2006-01-02T15:04:05Z0700", "2006-01-02T15:04Z07:00", "2006-01-02T15:04",
	time.DateTime, "2006-01-02 15:04:05Z07:00", "2006-01-02 15:04:05Z07", "2006-01-02 15:04:05 -0700", "2006-01-02 15:04:05 UTC",
	"2006-01-02 15:04",
}

// secondsBelow tells seconds from milliseconds: as seconds it is the year 5138, as milliseconds 1973.
const secondsBelow = 1e11

// form is how a client wrote a time.
type form uint8

const (
	formTime    form = iota // a day and a time
	formDay                 // a day alone
	formNumber              // milliseconds since 1970
	formSeconds             // seconds since 1970
)

// parseTime reads a time as clients write it, in UTC. HubSpot refuses those more than 1,000 years away.
func parseTime(v gjson.Result) (at time.Time, f form, ok bool) {
	switch v.Type {
	case gjson.String:
		s := strings.TrimSpace(v.Str)
		for _, layout := range timeLayouts {
			if at, err := time.Parse(layout, s); err == nil {
				if layout == time.DateOnly {
					f = formDay
				}
				return at.UTC(), f, plausible(at)
			}
		}
		if !isDecimal(s) {
			return time.Time{}, f, false
		}
		return parseEpoch(s)
	case gjson.Number:
		return parseEpoch(v.Raw)
	}
	return time.Time{}, f, false
}

// parseEpoch reads seconds or milliseconds since 1970. Eight digits that make a date are one; four are a year, which is no time.
func parseEpoch(s string) (at time.Time, form form, ok bool) {
	switch {
	case len(s) == 4 && isDigits(s):
		return time.Time{}, formTime, false
	case len(s) == 8:
		if at, err := time.Parse("20060102", s); err == nil && at.Year() >= 1900 && at.Year() < 2200 {
			return at, formDay, true
		}
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || f > 1e14 || f < -1e14 {
		return time.Time{}, formTime, false
	}
	form = formNumber
	if f < secondsBelow && f > -secondsBelow {
		f *= 1000
		form = formSeconds
	}
	at = time.UnixMilli(int64(f)).UTC()
	return at, form, plausible(at)
}

func plausible(at time.Time) bool { return at.Year() > 1100 && at.Year() < 2900 }
