// Narrows the table of verdicts down. Without this, the whole of it stays.
const filter = document.querySelector(".filter")
if (filter) {
  const paper = document.getElementById("by-paper"), verdict = document.getElementById("by-verdict")
  const said = filter.querySelector("output"), bodies = [...document.querySelectorAll(".verdicts tbody")]
  const narrow = () => {
    let shown = 0, all = 0
    for (const body of bodies) {
      let own = 0
      for (const row of body.querySelectorAll("[data-verdict]")) {
        const fits = (!paper.value || body.dataset.paper === paper.value) && (!verdict.value || row.dataset.verdict === verdict.value)
        row.hidden = !fits
        own += fits
        all += 1
      }
      body.hidden = !own
      shown += own
    }
    said.textContent = shown === all ? `${all} claims` : `${shown} of ${all} claims`
  }
  paper.addEventListener("change", narrow)
  verdict.addEventListener("change", narrow)
  filter.hidden = false
  narrow()
}
