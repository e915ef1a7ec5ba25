/* Backbone: messages go into a collection, and a view follows the collection. */
(function () {
  'use strict';
  var items = new Backbone.Collection();

  var Row = Backbone.View.extend({
    initialize: function () {
      this.setElement(todo.newRow(this.model.attributes));
      this.listenTo(this.model, 'change', function () { todo.fill(this.el, this.model.attributes); });
      this.listenTo(this.model, 'remove', this.remove);
    }
  });

  var List = Backbone.View.extend({
    initialize: function () {
      this.$el.empty();
      this.listenTo(this.collection, 'add', function (model) { this.$el.append(new Row({ model: model }).el); });
    }
  });
  new List({ el: todo.box.querySelector('.items'), collection: items });

  var show = todo.begin({
    put: function (item) { items.add(item, { merge: true }); },
    take: function (item) { items.remove(item.id); }
  });
  todo.lt.on('itemAdded', show.put);
  todo.lt.on('itemChanged', show.put);
  todo.lt.on('itemRemoved', show.take);
})();
