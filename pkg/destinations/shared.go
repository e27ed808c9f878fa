package destinations

import "sync"

// Shared keeps values that several destinations of one account use together and that outlive a reload. The zero value is ready.
type Shared struct {
	mu     sync.Mutex
	values map[string]any
}

// Of returns the value under key, making it first when there is none. Two callers get the same value. Keys begin with the
// name of the destination type, so that types do not meet. make must not call Of.
func Of[T any](s *Shared, key string, make func() T) T {
	s.mu.Lock()
	defer s.mu.Unlock()
	if v, ok := s.values[key]; ok {
		return v.(T)
	}
	if s.values == nil {
		s.values = map[string]any{}
	}
	v := make()
	s.values[key] = v
	return v
}
