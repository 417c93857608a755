// Draws the charts over the chosen axis; data and specifications stand in the page as JSON.
(function () {
  "use strict";
  const source = JSON.parse(document.getElementById("chart-data").textContent);
  const options = {
    mode: "vega-lite",
    renderer: "svg",
    actions: false,
    ast: true, // no code is made from text, as the page's policy asks
    config: source.config,
  };
  const views = new Map();

  function draw(chart) {
    const place = document.getElementById("chart-" + chart.id);
    const select = document.querySelector('select[data-chart="' + chart.id + '"]');
    const axis = document.querySelector('input[name="axis"]:checked').value;
    const spec = structuredClone(chart.spec);
    spec.description = chart.about;
    const rows = source.data[select ? select.value : chart.metrics[0]];
    spec.data = { values: rows.filter((row) => row[axis] !== null) };
    spec.encoding.x = { ...source.axes[axis] };
    if (place.clientWidth < 480) {
      spec.encoding.x.title = spec.encoding.x.title.split(/ (?=\()/); // a line for the brackets
    }
    return vegaEmbed(place, spec, options)
      .then(function (drawn) {
        if (views.has(chart.id)) views.get(chart.id).finalize();
        views.set(chart.id, drawn);
      })
      .catch(function (error) {
        place.textContent = "This chart could not be drawn: " + error.message;
        console.error(error);
      });
  }

  function drawAll() {
    return Promise.all(source.charts.map(draw)).then(function () {
      document.body.dataset.drawn = "true";
    });
  }

  for (const input of document.querySelectorAll('input[name="axis"]')) {
    input.addEventListener("change", drawAll);
  }
  for (const select of document.querySelectorAll("select[data-chart]")) {
    select.addEventListener("change", drawAll);
  }
  if (source.charts.length) drawAll();
  else document.body.dataset.drawn = "true";
})();
