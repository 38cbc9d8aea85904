// Figures of a cell below its map, by pointer or by Tab and arrow keys. Without this, tooltips stay.
for (const map of document.querySelectorAll("svg.map")) {
  const line = map.parentNode.querySelector("output"), cells = [...map.querySelectorAll(".cells > *")]
  if (!line || !cells.length) continue
  const frame = document.createElementNS("http://www.w3.org/2000/svg", "rect")
  frame.setAttribute("class", "cursor")
  let now = map.querySelector(".cells > .best") || cells[0], places
  const hint = line.textContent = "Point at a cell, or use Tab and the arrow keys."
  const say = cell => { line.textContent = cell.querySelector("title").textContent }
  const cellAt = event => event.target.closest ? event.target.closest(".cells > *") : null
  const roam = cell => {
    now.setAttribute("tabindex", -1)
    now = cell
    now.setAttribute("tabindex", 0)
  }
  map.setAttribute("role", "group")
  roam(now)
  map.addEventListener("pointerover", event => { const cell = cellAt(event); if (cell) say(cell) })
  map.addEventListener("pointerleave", () => {
    if (map.contains(document.activeElement)) say(now); else line.textContent = hint
  })
  map.addEventListener("pointerdown", event => {
    const cell = cellAt(event)
    if (cell) { roam(cell); cell.focus(); event.preventDefault() }
  })
  map.addEventListener("focusin", () => {
    const box = now.getBBox()
    for (const side of ["x", "y", "width", "height"]) frame.setAttribute(side, box[side])
    map.append(frame)
    now.setAttribute("role", "img")
    say(now)
  })
  map.addEventListener("focusout", () => { frame.remove(); line.textContent = hint })
  map.addEventListener("keydown", event => {
    if (event.ctrlKey || event.altKey || event.metaKey) return
    const far = { Home: [-1, 0], End: [1, 0] }[event.key]
    const way = far || { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key]
    if (!way) return
    event.preventDefault()
    places = places || new Map(cells.map(cell => {
      const box = cell.getBBox()
      return [cell, [box.x + box.width / 2, box.y + box.height / 2]]
    }))
    const [x, y] = places.get(now)
    let best = null, least = Infinity
    for (const [cell, [a, b]] of places) {
      const along = (a - x) * way[0] + (b - y) * way[1], aside = Math.abs((a - x) * way[1]) + Math.abs((b - y) * way[0])
      if (along < 0.5 || (far && aside > 1)) continue
      const cost = (far ? -along : along) + 3 * aside
      if (cost < least) { least = cost; best = cell }
    }
    if (best) { roam(best); best.focus() }
  })
}
