package router

// betweenBatches has the sorter do something when it has no records in hand. It does not wait. Before Run
// it is done first.
func (r *Router) betweenBatches(do func() error) (done <-chan error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	ended := make(chan error, 1)
	r.errands = append(r.errands, func() { ended <- do() })
	if r.interrupt != nil {
		r.interrupt()
	}
	return ended
}

// doErrands is the sorter's part.
func (r *Router) doErrands() {
	r.mu.Lock()
	errands := r.errands
	r.errands = nil
	r.mu.Unlock()
	for _, do := range errands {
		do()
	}
}
