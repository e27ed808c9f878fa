package webhook

import "eventrouter/pkg/destinations"

// group makes requests of messages: each has one target and stays below the limits. Those of one key keep their order: a message goes into no request
// before that of an earlier one with its key.
func (d *Destination) group(messages []*message, batch []destinations.Entry) [][]*message {
	if d.set.Batch.MaxEvents == 1 {
		groups := make([][]*message, len(messages))
		for i := range messages {
			groups[i] = messages[i : i+1 : i+1]
		}
		return groups
	}
	g := grouping{most: d.set.Batch.MaxEvents, mostBytes: int(d.set.Batch.MaxBytes), open: map[string]int{}, last: map[string]int{}}
	for _, m := range messages {
		g.add(m, batch[m.entry].Plan.Key)
	}
	return g.groups
}

type grouping struct {
	most, mostBytes int

	groups [][]*message
	bytes  []int          // of each group
	open   map[string]int // target: the group that takes more of it
	last   map[string]int // key: the last group that has it
}

func (g *grouping) add(m *message, key string) {
	size := len(m.body) + 1
	target := m.target.key()
	i, ok := g.open[target]
	if !ok || m.target.enveloped || key != "" && g.last[key] > i || len(g.groups[i]) >= g.most || g.bytes[i]+size > g.mostBytes {
		i = len(g.groups)
		g.groups = append(g.groups, nil)
		g.bytes = append(g.bytes, 0)
		if !m.target.enveloped {
			g.open[target] = i
		}
	}
	g.groups[i] = append(g.groups[i], m)
	g.bytes[i] += size
	if key != "" {
		g.last[key] = max(g.last[key], i)
	}
}
