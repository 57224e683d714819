package show

import (
	"fmt"
	"strings"
	"text/tabwriter"
)

// columns is a table without lines or colour: people read it, and a program
// can cut it. No cell is empty (see dash), so fields can be counted.
type columns struct {
	w *tabwriter.Writer
	b *strings.Builder
}

// columnGap keeps neighbouring columns apart, in blanks.
const columnGap = 2

func newTable(header ...string) *columns {
	t := &columns{b: &strings.Builder{}}
	t.w = tabwriter.NewWriter(t.b, 0, 0, columnGap, ' ', 0)
	cells := make([]any, len(header))
	for i, h := range header {
		cells[i] = strings.ToUpper(h)
	}
	t.row(cells...)
	return t
}

// row adds a line. A tab or line break within a cell would end it.
func (t *columns) row(cells ...any) {
	for i, c := range cells {
		if i > 0 {
			fmt.Fprint(t.w, "\t")
		}
		fmt.Fprint(t.w, strings.NewReplacer("\t", " ", "\n", " ").Replace(fmt.Sprint(c)))
	}
	fmt.Fprint(t.w, "\n")
}

func (t *columns) String() string {
	_ = t.w.Flush() // a strings.Builder takes everything
	return t.b.String()
}
