package segment

import "time"

// timeLayout is RFC 3339 with milliseconds.
const timeLayout = "2006-01-02T15:04:05.000Z07:00"

// appendTime appends utc_time: when the message says that it happened, corrected by how wrong the client's clock is. At sentAt that clock should have shown
// the time of receipt.
//
// A timestamp beside an originalTimestamp has been corrected already, or was given by hand.
func (c *Converter) appendTime() {
	value, asIs := c.fields[fTimestamp], isText(c.fields[fOriginalTimestamp])
	if !isID(value) {
		value, asIs = c.fields[fOriginalTimestamp], false
	}
	if !isID(value) {
		return
	}
	at, ok := clientTime(value)
	if !ok {
		c.raw("utc_time", value) // another layout: who reads it may know it
		return
	}
	sent, ok := clientTime(c.fields[fSentAt])
	if !ok {
		sent, ok = clientTime(c.opts.SentAt)
	}
	if ok && !asIs {
		at = c.opts.Received.Add(-sent.Sub(at))
	}
	c.note("utc_time")
	c.key("utc_time")
	c.dst = append(c.dst, '"')
	c.dst = append(at.UTC().AppendFormat(c.dst, timeLayout), '"')
}

// clientTime reads a time as SDKs send it.
func clientTime(raw []byte) (time.Time, bool) {
	if len(raw) < len(`"2006-01-02T15:04:05Z"`) || raw[0] != '"' {
		return time.Time{}, false
	}
	t, err := time.Parse(time.RFC3339Nano, view(raw[1:len(raw)-1]))
	return t, err == nil && t.Year() > 0
}
