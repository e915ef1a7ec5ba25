/* Ember: messages change an array of Ember objects, and the template follows it. */
(function () {
  'use strict';
  var source = [
    '<ul class="items">',
    '{{#each items key="id" as |item|}}',
    '  <li class="item" data-id={{item.id}} data-done={{if item.done "1" "0"}}>',
    '    <form data-action="done">',
    '      <button class="tick" aria-pressed={{if item.done "true" "false"}}',
    '              aria-label="Done: {{item.title}}"></button>',
    '    </form>',
    '    <span class="title">{{item.title}}</span>',
    '    <details>',
    '      <summary aria-label="Edit: {{item.title}}">Edit</summary>',
    '      <div class="edit">',
    '        <form data-action="rename">',
    '          <input name="title" defaultValue={{item.title}} maxlength="200" required autocomplete="off"',
    '                 aria-label="Title">',
    '          <button>Save</button>',
    '        </form>',
    '        <form data-action="remove"><button class="danger">Remove</button></form>',
    '      </div>',
    '    </details>',
    '  </li>',
    '{{/each}}',
    '</ul>'
  ].join('\n');
  // Ember.HTMLBars.compile wants eval, which the page's policy forbids; what it would run is JSON.
  var template = Ember.HTMLBars.template(JSON.parse(Ember.HTMLBars.precompile(source, {})));
  var items = Ember.A();

  todo.box.textContent = '';
  var App = Ember.Application.create({ rootElement: todo.box });
  App.Router.reopen({ location: 'none' });
  App.IndexController = Ember.Controller.extend({ items: items });
  Ember.TEMPLATES.index = template;

  var show = todo.begin({
    put: function (item) {
      var there = items.findBy('id', item.id);
      if (there) { there.setProperties(item); } else { items.pushObject(Ember.Object.create(item)); }
    },
    take: function (item) {
      items.removeObject(items.findBy('id', item.id));
    }
  });
  todo.lt.on('itemAdded', show.put);
  todo.lt.on('itemChanged', show.put);
  todo.lt.on('itemRemoved', show.take);
})();
