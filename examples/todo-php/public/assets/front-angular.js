/* AngularJS: messages change an array of the scope. They come from outside Angular, so $applyAsync tells it of the change. */
(function () {
  'use strict';
  var template = [
    '<ul class="items">',
    '  <li class="item" ng-repeat="item in items track by item.id"',
    '      data-id="{{item.id}}" data-done="{{item.done ? 1 : 0}}">',
    '    <form data-action="done">',
    '      <button class="tick" aria-pressed="{{item.done}}" aria-label="Done: {{item.title}}"></button>',
    '    </form>',
    '    <span class="title">{{item.title}}</span>',
    '    <details>',
    '      <summary aria-label="Edit: {{item.title}}">Edit</summary>',
    '      <div class="edit">',
    '        <form data-action="rename">',
    '          <input name="title" value="{{item.title}}" maxlength="200" required autocomplete="off"',
    '                 aria-label="Title">',
    '          <button>Save</button>',
    '        </form>',
    '        <form data-action="remove"><button class="danger">Remove</button></form>',
    '      </div>',
    '    </details>',
    '  </li>',
    '</ul>'
  ].join('\n');

  angular.module('todo', []).run(['$rootScope', '$compile', function (scope, compile) {
    scope.items = [];

    function index(item) {
      return scope.items.findIndex(function (one) { return one.id === item.id; });
    }

    var show = todo.begin({
      put: function (item) {
        var at = index(item);
        if (at === -1) { scope.items.push(item); } else { scope.items[at] = item; }
        scope.$applyAsync();
      },
      take: function (item) {
        if (index(item) !== -1) { scope.items.splice(index(item), 1); }
        scope.$applyAsync();
      }
    });
    todo.lt.on('itemAdded', show.put);
    todo.lt.on('itemChanged', show.put);
    todo.lt.on('itemRemoved', show.take);
    angular.element(todo.box).empty().append(compile(template)(scope));
  }]);

  // The rows that PHP has drawn are removed first: a title such as "{{1 + 1}}" in it would be an expression for
  // Angular.
  todo.box.textContent = '';
  angular.bootstrap(todo.box, ['todo']);
})();
