package router

// bitmap has a bit for each entry of a block, as the store keeps it.
type bitmap []byte

// newBitmap makes one for so many entries, with the bits that are stored.
func newBitmap(entries int, stored []byte) bitmap {
	b := make(bitmap, (entries+7)/8)
	copy(b, stored)
	return b
}

// has says whether bit i is set. What lies beyond the end is not.
func (b bitmap) has(i int) bool { return i/8 < len(b) && b[i/8]&(1<<(i%8)) != 0 }

func (b bitmap) set(i int)   { b[i/8] |= 1 << (i % 8) }
func (b bitmap) clear(i int) { b[i/8] &^= 1 << (i % 8) }
