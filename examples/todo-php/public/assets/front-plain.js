/* The plain front end: the rows that PHP has drawn are kept up to date in place. */
(function () {
  'use strict';
  var list = todo.box.querySelector('.items');

  function row(item) {
    return list.querySelector('.item[data-id="' + Number(item.id) + '"]');
  }

  var show = todo.begin({
    put: function (item) {
      if (row(item)) { todo.fill(row(item), item); } else { list.appendChild(todo.newRow(item)); }
    },
    take: function (item) {
      if (row(item)) { row(item).remove(); }
    }
  });
  todo.lt.on('itemAdded', show.put);
  todo.lt.on('itemChanged', show.put);
  todo.lt.on('itemRemoved', show.take);
})();
